package check

import (
	"errors"
	"fmt"

	"github.com/berthhq/berth/drivers/inspect"
)

// ofS3 returns the results for settings that only S3 has. It leaves out settings
// that the driver does not read.
func ofS3(s inspect.Settings) []Result {
	var results []Result
	if has(s.Tiering) {
		results = append(results, archiveTiers(s.Tiering))
	}
	if has(s.Lock) {
		results = append(results, objectLock(s.Lock))
	}
	if has(s.Payment) {
		results = append(results, payment(s.Payment))
	}
	return results
}

// archiveTiers checks that S3 Intelligent-Tiering moves no objects to a tier from
// which they must be restored before a read.
func archiveTiers(setting inspect.Setting[[]inspect.Rule]) Result {
	this := step{
		name:   "archive tiers",
		impact: "Blobs in S3 Intelligent-Tiering that are not pulled for that long can't be read until an operator restores them.",
		fix:    "Switch the archive tiers off, or restrict the configuration to a prefix that berth does not use.",
	}
	if setting.Err != nil {
		return unread(this, setting)
	}
	for _, r := range setting.Value {
		if isOurs(r) {
			return this.result("", fmt.Errorf("the configuration %q of S3 Intelligent-Tiering moves objects%s to %s %s without reads",
				r.ID, under(r), r.Class, after(r.Age)))
		}
	}
	return this.result("none affects objects that berth uses", nil)
}

// objectLock checks that the bucket has no lock. A lock does not make deletions and
// replacements fail, but the versions that it keeps cost money.
func objectLock(setting inspect.Setting[inspect.Lock]) Result {
	this := step{
		name:   "object lock",
		impact: "Higher costs: versions of objects that berth replaces or deletes can't be deleted until their retention ends.",
		fix:    "Remove the default retention of Object Lock unless you want it, and add a lifecycle rule that deletes versions afterwards.",
	}
	switch {
	case setting.Err != nil:
		return unread(this, setting)
	case !setting.Value.Enabled:
		return this.result("off", nil)
	case setting.Value.Unchecked:
		this.impact = "The store refuses writes that the lock applies to, because they must carry a checksum."
		this.fix = "Set storage.s3.checksum to crc32c, or use a bucket without Object Lock."
		return this.result("", errors.New("on, and storage.s3.checksum is none"))
	case setting.Value.Retention > 0:
		return this.result("", warning{fmt.Errorf("on, with a default retention of %d days", days(setting.Value.Retention))})
	default:
		return this.result("on, without a default retention", nil)
	}
}

// payment checks that requests accept the costs, if the bucket requires that.
func payment(setting inspect.Setting[bool]) Result {
	this := step{
		name:   "requester pays",
		impact: "The store refuses requests from accounts other than the bucket's, and from a CDN that does not sign as the bucket's account.",
		fix:    "If berth's credentials belong to another account, set storage.s3.request_payer to requester; otherwise switch Requester Pays off.",
	}
	switch {
	case setting.Err != nil:
		return unread(this, setting)
	case setting.Value:
		return this.result("", warning{errors.New("on, and storage.s3.request_payer is empty")})
	default:
		return this.result("off", nil)
	}
}
