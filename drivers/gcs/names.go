package gcs

import (
	"errors"
	"fmt"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// An attempt is the content of a part's tag: the unique component of the part's
// name, and its generation.
type attempt struct {
	id         string
	generation int64
}

func (a attempt) tag() string { return a.id + "." + formatTag(a.generation) }

func parseAttempt(tag string) (attempt, bool) {
	id, rest, _ := strings.Cut(tag, ".")
	generation, ok := parseTag(rest)
	return attempt{id, generation}, ok && isID(id)
}

// isID reports whether s may be the id of an upload or of an attempt. rand.Text
// generates ids of these characters.
func isID(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func checkUpload(u drivers.Upload) error {
	if !isID(u.ID) {
		return errors.New("no upload has this id")
	}
	return drivers.CheckKey(u.Key)
}

// uploadKey returns the prefix of the keys of all objects of an upload.
func uploadKey(u drivers.Upload) string { return drivers.PartsPrefix + u.Key + "/" + u.ID + "/" }

func partKey(u drivers.Upload, number int, attemptID string) string {
	return fmt.Sprintf("%s%05d-%s", uploadKey(u), number, attemptID)
}

// nodeKey returns the key of the node composed of the parts with these numbers.
func nodeKey(u drivers.Upload, first, last int) string {
	return fmt.Sprintf("%snode-%05d-%05d", uploadKey(u), first, last)
}

// parseUploadKey returns the upload that an object under parts/ belongs to. It
// reports false if there is none.
func parseUploadKey(key string) (drivers.Upload, bool) {
	rest, ours := strings.CutPrefix(key, drivers.PartsPrefix)
	slash := strings.LastIndexByte(rest, '/')
	if !ours || slash < 0 {
		return drivers.Upload{}, false
	}
	rest = rest[:slash]
	slash = strings.LastIndexByte(rest, '/')
	if slash < 0 {
		return drivers.Upload{}, false
	}
	u := drivers.Upload{Key: rest[:slash], ID: rest[slash+1:]}
	return u, checkUpload(u) == nil
}
