package redirect

import (
	"errors"
	"fmt"
)

// problems collects the errors in a [Config]. Each value belongs to one field,
// and all values in one call of New share a list.
type problems struct {
	path string // such as redirect.Config.CDN["edge"].BaseURL
	list *[]error
}

func (p problems) field(name string) problems { return problems{p.path + "." + name, p.list} }

func (p problems) entry(name string) problems {
	return problems{fmt.Sprintf("%s[%q]", p.path, name), p.list}
}

func (p problems) index(i int) problems { return problems{fmt.Sprintf("%s[%d]", p.path, i), p.list} }

func (p problems) add(err error) {
	if err != nil {
		*p.list = append(*p.list, fmt.Errorf("%s: %w", p.path, err))
	}
}

func (p problems) addf(format string, args ...any) { p.add(fmt.Errorf(format, args...)) }

func (p problems) err() error { return errors.Join(*p.list...) }
