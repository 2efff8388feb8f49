package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/berthhq/berth/drivers"
)

// value is the field of a key, with its conversion from and to text.
type value interface {
	// set parses text into the field, and reports whether it is allowed.
	set(text string) bool

	// wants returns a description of allowed values, such as "true or false".
	wants() string

	// String returns the field's value in a form that set parses.
	String() string

	// node returns the field's value in YAML.
	node() *yaml.Node

	// pointer returns the address of the field.
	pointer() any
}

// field is a value of type T.
type field[T any] struct {
	p      *T
	want   string
	parse  func(string) (T, bool)
	format func(T) string
}

func (f field[T]) set(text string) bool {
	v, ok := f.parse(text)
	if ok {
		*f.p = v
	}
	return ok
}

func (f field[T]) wants() string { return f.want }

func (f field[T]) pointer() any { return f.p }

func (f field[T]) String() string { return f.format(*f.p) }

func (f field[T]) node() *yaml.Node {
	switch v := any(*f.p).(type) {
	case string:
		return scalar(v)
	case []string:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, item := range v {
			list.Content = append(list.Content, scalar(item))
		}
		return list
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: f.String()}
	}
}

// scalar returns text in YAML, quoted if it would parse as another type.
func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// words returns a text field with the default def that allows what valid reports.
func words(p *string, def, want string, valid func(string) bool) value {
	*p = def
	parse := func(s string) (string, bool) { return s, valid(s) }
	return field[string]{p, want, parse, func(s string) string { return s }}
}

func text(p *string, def string) value {
	return words(p, def, "text without control characters", func(s string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
	})
}

// redacted replaces the value of a secret in output.
const redacted = "REDACTED"

func secret(p *string) value {
	return words(p, "", "the secret, not what `berth config` shows in its place", func(s string) bool {
		return s != redacted
	})
}

// choice returns a field that allows only the options. The first is the default.
func choice(p *string, options ...string) value {
	want := "one of " + strings.Join(options, ", ")
	if options[0] == "" {
		want = "one of " + strings.Join(options[1:], ", ") + ", or nothing"
	}
	return words(p, options[0], want, func(s string) bool { return slices.Contains(options, s) })
}

// address returns a field for an address to listen on, host:port.
func address(p *string, def string) value {
	return words(p, def, "host:port, such as 127.0.0.1:5000, or :5000 for all interfaces", func(s string) bool {
		_, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		return err == nil
	})
}

// webURL returns a field for an http or https URL without credentials, query or
// fragment. It can be empty.
func webURL(p *string) value {
	return words(p, "", "a URL such as https://registry.example.com, without user, query or fragment", func(s string) bool {
		u, err := url.Parse(s)
		return s == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" &&
			u.User == nil && !strings.ContainsAny(s, "?#")
	})
}

// prefix returns a field for the prefix of every key in the bucket. It allows the
// characters of keys, and leaves enough of their length for the keys below it.
// It ignores slashes at both ends.
func prefix(p *string) value {
	want := "a path such as registry/blobs, of a-z A-Z 0-9 ! + - . _ : and at most 200 bytes"
	parse := func(s string) (string, bool) {
		s = strings.Trim(s, "/")
		return s, s == "" || drivers.CheckKey(s) == nil && len(s) <= 200
	}
	return field[string]{p, want, parse, func(s string) string { return s }}
}

// list returns a field for words separated by commas. It can be empty.
func list(p *[]string) value {
	parse := func(s string) (words []string, ok bool) {
		if strings.TrimSpace(s) == "" {
			return nil, true
		}
		for item := range strings.SplitSeq(s, ",") {
			words = append(words, strings.TrimSpace(item))
		}
		return words, !slices.Contains(words, "")
	}
	format := func(words []string) string { return strings.Join(words, ",") }
	return field[[]string]{p, "a list such as [a, b], without empty words", parse, format}
}

func boolean(p *bool, def bool) value {
	*p = def
	parse := func(s string) (bool, bool) { return s == "true", s == "true" || s == "false" }
	return field[bool]{p, "true or false", parse, strconv.FormatBool}
}

// count returns a field for a whole number, least <= n <= most.
func count(p *int, def, least, most int) value {
	*p = def
	parse := func(s string) (int, bool) {
		n, err := strconv.Atoi(s)
		return n, err == nil && least <= n && n <= most
	}
	return field[int]{p, fmt.Sprintf("a whole number from %d to %d", least, most), parse, strconv.Itoa}
}

// size returns a field for a number of bytes, least <= n <= most.
func size(p *int64, def, least, most int64) value {
	*p = def
	want := fmt.Sprintf("a size from %s to %s, such as 16MiB (units: B, KiB, MiB, GiB, TiB, PiB)", formatSize(least), formatSize(most))
	parse := func(s string) (int64, bool) {
		n, ok := ParseSize(s)
		return n, ok && least <= n && n <= most
	}
	return field[int64]{p, want, parse, formatSize}
}

// duration returns a field for a length of time, least <= d <= most.
func duration(p *time.Duration, def, least, most time.Duration) value {
	*p = def
	want := fmt.Sprintf("a time from %s to %s, such as 20m (units: ms, s, m, h)", formatDuration(least), formatDuration(most))
	parse := func(s string) (time.Duration, bool) {
		d, err := time.ParseDuration(s)
		return d, err == nil && least <= d && d <= most
	}
	return field[time.Duration]{p, want, parse, formatDuration}
}
