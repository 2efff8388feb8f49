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

// value is the field behind a key, as text.
type value interface {
	// set parses text into the field, and reports whether it is what the field
	// wants.
	set(text string) bool

	// wants says what the field takes, such as "true or false".
	wants() string

	// String is the field's value, as set takes it.
	String() string

	// node is the field's value in YAML.
	node() *yaml.Node
}

// field is a value of any type.
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

// scalar is text in YAML, quoted where it looks like something else.
func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// words is a field of text that holds def and takes what valid takes.
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

// redacted stands where the value of a secret would.
const redacted = "REDACTED"

func secret(p *string) value {
	return words(p, "", "the secret, not what `berth config` shows in its place", func(s string) bool {
		return s != redacted
	})
}

// choice is one of a few words; the first is the default.
func choice(p *string, options ...string) value {
	want := "one of " + strings.Join(options, ", ")
	if options[0] == "" {
		want = "one of " + strings.Join(options[1:], ", ") + ", or nothing"
	}
	return words(p, options[0], want, func(s string) bool { return slices.Contains(options, s) })
}

// address is where to listen, host:port.
func address(p *string, def string) value {
	return words(p, def, "host:port, such as 127.0.0.1:5000, or :5000 for all interfaces", func(s string) bool {
		_, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		return err == nil
	})
}

// webURL is an http or https URL without credentials, query or fragment, or
// nothing.
func webURL(p *string) value {
	return words(p, "", "a URL such as https://registry.example.com, without user, query or fragment", func(s string) bool {
		u, err := url.Parse(s)
		return s == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" &&
			u.User == nil && !strings.ContainsAny(s, "?#")
	})
}

// prefix begins every key in the bucket: what a key may be, less what the keys
// below it need. Slashes around it do not count.
func prefix(p *string) value {
	want := "a path such as registry/blobs, of a-z A-Z 0-9 ! + - . _ : and at most 200 bytes"
	parse := func(s string) (string, bool) {
		s = strings.Trim(s, "/")
		return s, s == "" || drivers.CheckKey(s) == nil && len(s) <= 200
	}
	return field[string]{p, want, parse, func(s string) string { return s }}
}

// list is a list of words, parted by commas, or nothing.
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

// count is a whole number, least <= n <= most.
func count(p *int, def, least, most int) value {
	*p = def
	parse := func(s string) (int, bool) {
		n, err := strconv.Atoi(s)
		return n, err == nil && least <= n && n <= most
	}
	return field[int]{p, fmt.Sprintf("a whole number from %d to %d", least, most), parse, strconv.Itoa}
}

// size is a number of bytes, least <= n <= most.
func size(p *int64, def, least, most int64) value {
	*p = def
	want := fmt.Sprintf("a size from %s to %s, such as 16MiB (units: B, KiB, MiB, GiB, TiB, PiB)", formatSize(least), formatSize(most))
	parse := func(s string) (int64, bool) {
		n, ok := ParseSize(s)
		return n, ok && least <= n && n <= most
	}
	return field[int64]{p, want, parse, formatSize}
}

// duration is a length of time, least <= d <= most.
func duration(p *time.Duration, def, least, most time.Duration) value {
	*p = def
	want := fmt.Sprintf("a time from %s to %s, such as 20m (units: ms, s, m, h)", formatDuration(least), formatDuration(most))
	parse := func(s string) (time.Duration, bool) {
		d, err := time.ParseDuration(s)
		return d, err == nil && least <= d && d <= most
	}
	return field[time.Duration]{p, want, parse, formatDuration}
}
