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

// archiveTiers checks that no tier holds objects that must be restored before a
// read.
func archiveTiers(setting inspect.Setting[[]inspect.Rule]) Result {
	this := step{
		name:   "archive tiers",
		breaks: "Blobs in S3 Intelligent-Tiering that were not pulled for that long can't be read until an operator restores them.",
		mend:   "Switch the archive tiers off, or narrow the configuration to a prefix that berth does not use.",
	}
	if setting.Err != nil {
		return unread(this, setting)
	}
	for _, r := range setting.Value {
		if isOurs(r) {
			return this.result("", fmt.Errorf("the configuration %q of S3 Intelligent-Tiering moves objects%s to %s %s without a read",
				r.ID, under(r), r.Class, after(r.Age)))
		}
	}
	return this.result("none takes what is in use", nil)
}

// objectLock checks for a lock. Deletions and replacements succeed in spite of
// it, but the versions that it keeps are paid for.
func objectLock(setting inspect.Setting[inspect.Lock]) Result {
	this := step{
		name:   "object lock",
		breaks: "Nothing, but versions of objects that berth replaces and deletes can't be deleted, and are paid for, until their retention ends.",
		mend:   "Remove the default retention of Object Lock, unless you want it, and add a lifecycle rule that drops versions after it.",
	}
	switch {
	case setting.Err != nil:
		return unread(this, setting)
	case !setting.Value.Enabled:
		return this.result("off", nil)
	case setting.Value.Unchecked:
		this.breaks = "Writes are refused wherever the lock applies: they must carry a checksum."
		this.mend = "Set storage.s3.checksum to crc32c, or use a bucket without Object Lock."
		return this.result("", errors.New("on, and storage.s3.checksum is none"))
	case setting.Value.Retention > 0:
		return this.result("", finding{fmt.Errorf("on, with a default retention of %d days", days(setting.Value.Retention))})
	default:
		return this.result("on, without a default retention", nil)
	}
}

func payment(setting inspect.Setting[bool]) Result {
	this := step{
		name:   "requester pays",
		breaks: "Requests of another account than the bucket's are refused, and so are those of a CDN that does not sign as the bucket's account.",
		mend:   "Set storage.s3.request_payer to requester if berth's credentials are another account's, or switch Requester Pays off.",
	}
	switch {
	case setting.Err != nil:
		return unread(this, setting)
	case setting.Value:
		return this.result("", finding{errors.New("on, and storage.s3.request_payer is empty")})
	default:
		return this.result("off", nil)
	}
}
