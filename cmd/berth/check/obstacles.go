package check

import (
	"errors"
	"fmt"
	"time"

	"github.com/berthhq/berth/drivers/inspect"
)

// obstacles returns the results for settings that prevent berth from serving a
// bucket. It leaves out settings that the store does not have.
func obstacles(s inspect.Settings) []Result {
	var results []Result
	if has(s.Retention) {
		results = append(results, retention(s.Retention))
	}
	if has(s.Held) {
		results = append(results, held(s.Held))
	}
	if has(s.RequesterPays) {
		results = append(results, requesterPays(s.RequesterPays))
	}
	if has(s.Hierarchical) {
		results = append(results, hierarchical(s.Hierarchical))
	}
	return results
}

// has reports whether the driver has read a setting, or tried to.
func has[T any](setting inspect.Setting[T]) bool {
	return setting.Permission != "" || setting.Err != nil
}

// shown returns the result for a setting that cannot be read, but that makes the
// steps of Run fail where it is on.
func shown[T any](s step, setting inspect.Setting[T]) Result {
	return Result{
		Step: s.name, Status: Skipped,
		Detail: fmt.Sprintf("can't be read (%v); objects could be created, replaced and deleted, which this would prevent", setting.Err),
	}
}

func retention(setting inspect.Setting[time.Duration]) Result {
	this := step{
		name:   "retention",
		breaks: "Records can't be replaced, nor parts and unused blobs deleted, until they have that age.",
		mend:   "Remove the bucket's retention policy, or use another bucket. A locked policy can't be removed.",
	}
	switch {
	case setting.Err != nil:
		return shown(this, setting)
	case setting.Value > 0:
		return this.result("", fmt.Errorf("objects can't be replaced or deleted for %v", setting.Value))
	default:
		return this.result("none", nil)
	}
}

func held(setting inspect.Setting[bool]) Result {
	this := step{
		name:   "holds",
		breaks: "Records can't be replaced, nor parts and unused blobs deleted, until an operator releases them one by one.",
		mend:   "Switch the bucket's default event-based hold off, and release the objects that berth has stored.",
	}
	switch {
	case setting.Err != nil:
		return shown(this, setting)
	case setting.Value:
		return this.result("", errors.New("new objects are held"))
	default:
		return this.result("none", nil)
	}
}

func requesterPays(setting inspect.Setting[bool]) Result {
	this := step{
		name:   "requester pays",
		breaks: "Every request of berth's is refused, and so is every signed URL, because neither names a project that pays.",
		mend:   "Switch Requester Pays off.",
	}
	switch {
	case setting.Err != nil:
		return shown(this, setting)
	case setting.Value:
		return this.result("", errors.New("on"))
	default:
		return this.result("off", nil)
	}
}

func hierarchical(setting inspect.Setting[bool]) Result {
	this := step{
		name:   "hierarchical namespace",
		breaks: "Each upload leaves folders behind that berth doesn't delete. They slow down listings, and with them the collector.",
		mend:   "Use a bucket without a hierarchical namespace. An existing bucket can't be changed.",
	}
	switch {
	case setting.Err != nil:
		return unread(this, setting)
	case setting.Value:
		return this.result("", errors.New("on"))
	default:
		return this.result("off", nil)
	}
}
