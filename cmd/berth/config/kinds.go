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

// value is the value of a key. It is stored in one or more fields.
type value interface {
	// set parses text into the fields, and reports whether it is allowed.
	set(text string) bool

	// wants returns a description of allowed values, such as "true or false".
	wants() string

	// String returns the value in a form that set parses.
	String() string

	// node returns the value in YAML.
	node() *yaml.Node

	// fields returns the addresses of the fields.
	fields() []any
}

// field is a value of type T in the fields that p points to.
type field[T any] struct {
	p      []*T
	want   string
	parse  func(string) (T, bool)
	format func(T) string
}

func (f field[T]) set(text string) bool {
	v, ok := f.parse(text)
	if ok {
		assign(f.p, v)
	}
	return ok
}

// assign sets all fields to v.
func assign[T any](fields []*T, v T) {
	for _, p := range fields {
		*p = v
	}
}

func (f field[T]) wants() string { return f.want }

func (f field[T]) fields() (all []any) {
	for _, p := range f.p {
		all = append(all, p)
	}
	return all
}

func (f field[T]) String() string { return f.format(*f.p[0]) }

func (f field[T]) node() *yaml.Node {
	switch v := any(*f.p[0]).(type) {
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

// words returns a text for which valid must return true. Its default is def.
func words(p []*string, def, want string, valid func(string) bool) value {
	assign(p, def)
	parse := func(s string) (string, bool) { return s, valid(s) }
	return field[string]{p, want, parse, func(s string) string { return s }}
}

// text returns a text without control characters.
func text(p *string, def string) value {
	return words([]*string{p}, def, "text without control characters", func(s string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
	})
}

// redacted replaces the value of a secret in output.
const redacted = "REDACTED"

// secret returns any text except the placeholder for secrets.
func secret(p *string) value {
	return words([]*string{p}, "", "the secret itself, not the placeholder that `berth config` prints", func(s string) bool {
		return s != redacted
	})
}

// header returns the value of the header with this name in headers.
func header(headers map[string]string, name string) value {
	return mapped{secret(new(string)), headers, name}
}

// mapped is a value that is also an entry of a map.
type mapped struct {
	value

	m    map[string]string
	name string
}

func (v mapped) set(text string) bool {
	ok := v.value.set(text)
	if ok {
		v.m[v.name] = v.String()
	}
	return ok
}

// choice returns a text that must be one of the options. The first is the default.
func choice(p *string, options ...string) value {
	want := "one of " + strings.Join(options, ", ")
	if options[0] == "" {
		want = "one of " + strings.Join(options[1:], ", ") + ", or nothing"
	}
	return words([]*string{p}, options[0], want, func(s string) bool { return slices.Contains(options, s) })
}

// address returns an address to listen on, host:port.
func address(p *string, def string) value {
	return words([]*string{p}, def, "host:port, such as 127.0.0.1:5000, or :5000 for all interfaces", isAddress)
}

func isAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	return err == nil
}

// adminAddress returns an address to listen on, auto or off. It is auto by default.
func adminAddress(p *string) value {
	return words([]*string{p}, AdminAuto, "host:port, such as 127.0.0.1:5001, or auto or off", func(s string) bool {
		return s == AdminAuto || s == AdminOff || isAddress(s)
	})
}

// webURL returns an http or https URL without credentials, query or fragment. It
// can be empty.
func webURL(p ...*string) value {
	return words(p, "", "a URL such as https://registry.example.com, without user, query or fragment", func(s string) bool {
		u, err := url.Parse(s)
		return s == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" &&
			u.User == nil && !strings.ContainsAny(s, "?#")
	})
}

// prefix returns the prefix of all keys in the bucket. It consists of the
// characters of keys, and is short enough to leave room for the keys below it.
// Slashes at its ends make no difference.
func prefix(p ...*string) value {
	want := "a path such as registry/blobs, with at most 200 characters from a-z A-Z 0-9 ! + - . _ : /"
	parse := func(s string) (string, bool) {
		s = strings.Trim(s, "/")
		return s, s == "" || drivers.CheckKey(s) == nil && len(s) <= 200
	}
	return field[string]{p, want, parse, func(s string) string { return s }}
}

// list returns words separated by commas. It can be empty.
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
	return field[[]string]{[]*[]string{p}, "a list such as [a, b], without empty words", parse, format}
}

// boolean returns a boolean that is false by default.
func boolean(p *bool) value {
	return field[bool]{[]*bool{p}, trueOrFalse, parseBool, strconv.FormatBool}
}

// negated returns a boolean that is true by default. The field has the opposite
// value.
func negated(p *bool) value {
	parse := func(s string) (bool, bool) {
		b, ok := parseBool(s)
		return !b, ok
	}
	return field[bool]{[]*bool{p}, trueOrFalse, parse, func(b bool) string { return strconv.FormatBool(!b) }}
}

const trueOrFalse = "true or false"

func parseBool(s string) (b, ok bool) { return s == "true", s == "true" || s == "false" }

// autoBoolean returns a boolean or auto, which is the default. The field is nil
// for auto.
func autoBoolean(p **bool) value {
	parse := func(s string) (*bool, bool) {
		if s == "auto" {
			return nil, true
		}
		b, ok := parseBool(s)
		return &b, ok
	}
	format := func(b *bool) string {
		if b == nil {
			return "auto"
		}
		return strconv.FormatBool(*b)
	}
	return field[*bool]{[]**bool{p}, "one of auto, true, false", parse, format}
}

// count returns a whole number, least <= n <= most.
func count(p *int, def, least, most int) value {
	*p = def
	parse := func(s string) (int, bool) {
		n, err := strconv.Atoi(s)
		return n, err == nil && least <= n && n <= most
	}
	return field[int]{[]*int{p}, fmt.Sprintf("a whole number from %d to %d", least, most), parse, strconv.Itoa}
}

// countOrNone returns a whole number, 0 <= n <= most. The field is -1 for 0,
// because in its library 0 stands for a default.
func countOrNone(p *int, def, most int) value {
	f, _ := count(p, def, 0, most).(field[int])
	inner := f.parse
	f.parse = func(s string) (int, bool) {
		n, ok := inner(s)
		if n == 0 {
			n = -1
		}
		return n, ok
	}
	f.format = func(n int) string { return strconv.Itoa(max(n, 0)) }
	return f
}

// size returns a number of bytes, least <= n <= most.
func size(def, least, most int64, p ...*int64) value {
	assign(p, def)
	want := fmt.Sprintf("a size from %s to %s, such as 16MiB (units: B, KiB, MiB, GiB, TiB, PiB)", formatSize(least), formatSize(most))
	parse := func(s string) (int64, bool) {
		n, ok := ParseSize(s)
		return n, ok && least <= n && n <= most
	}
	return field[int64]{p, want, parse, formatSize}
}

// sizeOrNone returns a number of bytes, at most most. The field is -1 for 0.
func sizeOrNone(p *int64, def, most int64) value {
	f, _ := size(def, 0, most, p).(field[int64])
	inner := f.parse
	f.parse = func(s string) (int64, bool) {
		n, ok := inner(s)
		if n == 0 {
			n = -1
		}
		return n, ok
	}
	f.format = func(n int64) string { return formatSize(max(n, 0)) }
	return f
}

// duration returns a length of time, least <= d <= most.
func duration(def, least, most time.Duration, p ...*time.Duration) value {
	assign(p, def)
	want := fmt.Sprintf("a time from %s to %s, such as 20m (units: ms, s, m, h)", formatDuration(least), formatDuration(most))
	parse := func(s string) (time.Duration, bool) {
		d, err := time.ParseDuration(s)
		return d, err == nil && least <= d && d <= most
	}
	return field[time.Duration]{p, want, parse, formatDuration}
}
