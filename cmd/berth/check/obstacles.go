package check

import (
	"errors"
	"fmt"
	"time"

	"github.com/berthhq/berth/drivers/inspect"
)

// obstacles returns the results for settings that prevent berth from using the
// bucket. It skips settings that the store does not have.
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

// shown returns the result for a setting that could not be read, but that would
// have made the steps of Run fail if it were on.
func shown[T any](s step, setting inspect.Setting[T]) Result {
	return Result{
		Step: s.name, Status: Skipped,
		Detail: fmt.Sprintf("cannot be read (%v), but objects could be created, replaced and deleted, which it would prevent", setting.Err),
	}
}

func retention(setting inspect.Setting[time.Duration]) Result {
	this := step{
		name:   "retention",
		impact: "Records can't be replaced, and parts and unused blobs can't be deleted, until they reach that age.",
		fix:    "Remove the bucket's retention policy, or use another bucket. A locked policy can't be removed.",
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
		impact: "Records can't be replaced, and parts and unused blobs can't be deleted, until an operator releases each of them.",
		fix:    "Switch the bucket's default event-based hold off, and release the existing objects.",
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
		impact: "The store refuses all requests and signed URLs of berth, because they name no project that pays.",
		fix:    "Switch Requester Pays off.",
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
		impact: "Each upload leaves folders behind that berth does not delete. They slow down listings, and thus the collector.",
		fix:    "Use a bucket without a hierarchical namespace. An existing bucket can't be changed.",
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
