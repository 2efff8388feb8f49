package redirect

import (
	"errors"
	"fmt"
)

// problems collects the errors in a configuration. Each value belongs to one
// configuration key, and all values in one call of New share a list.
type problems struct {
	key  string
	list *[]error
}

func (p problems) at(key string) problems {
	return problems{key: p.key + "." + key, list: p.list}
}

func (p problems) add(err error) {
	if err != nil {
		*p.list = append(*p.list, fmt.Errorf("%s: %w", p.key, err))
	}
}

func (p problems) addf(format string, args ...any) { p.add(fmt.Errorf(format, args...)) }

func (p problems) err() error { return errors.Join(*p.list...) }
