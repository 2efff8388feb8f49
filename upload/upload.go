package upload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/upload/budget"
)

// Errors that a client can act on. Errors of the store are returned as they are;
// see package drivers.
var (
	// ErrUnknown means that there is no such upload: it was never started, has
	// expired, was committed, cancelled or lost, belongs to another repository,
	// or its token is forged. The client starts again.
	ErrUnknown = errors.New("upload unknown")

	// ErrOutOfOrder means that another request continued from the same place
	// first, or that the bytes belong elsewhere. Status returns where to continue.
	ErrOutOfOrder = errors.New("upload is not at this offset")

	// ErrDigest means that the bytes don't have the digest that they were to be
	// committed as. The upload is as it was.
	ErrDigest = errors.New("bytes do not match the digest")

	// ErrTooLarge means that the upload is over the configured size, or over what
	// the store can hold in parts of the memory there is.
	ErrTooLarge = errors.New("upload is too large")

	// ErrCut means that the upload was stopped, because its client is slow
	// while others wait for memory, or because the process is shutting down.
	// What had come is kept, unless it came with the request to commit.
	ErrCut = errors.New("upload was cut off")

	// ErrTooMany means that too many uploads wait for memory. The client may try
	// again later.
	ErrTooMany = budget.ErrTooMany
)

// EndedError is how a session ended that a request wanted to continue. It is an
// ErrUnknown.
type EndedError struct {
	// Gone is true if the session's records are no longer there: how it ended
	// isn't known.
	Gone bool

	// Digest is the canonical digest that it was committed as, empty if it
	// was cancelled; RequestedDigest is the one that the client requested, if that is
	// another.
	Digest, RequestedDigest digest.Digest

	end    int             // number of the record that ended it, if that is not the one that was read
	upload *drivers.Upload // where its data may be
	size   int64
	crc    uint32
}

// Error returns the text for a client.
func (e *EndedError) Error() string {
	switch {
	case e.Gone:
		return "upload unknown: its session is over"
	case e.Digest == "":
		return "upload unknown: it was cancelled"
	default:
		return "upload unknown: it was committed"
	}
}

// Is reports whether target is ErrUnknown.
func (e *EndedError) Is(target error) bool { return target == ErrUnknown }

// Layout names the keys that uploads live under.
type Layout interface {
	// Sessions is the prefix of the records of all sessions. The id of a session
	// follows, and a slash.
	Sessions() string
	// Session is the prefix of a session's records.
	Session(id string) string
	// SessionRecord is the key of one record, in the order of their numbers.
	SessionRecord(id string, seq int) string
	// Data draws a data key that was never used: one of the digest, or one for
	// bytes of unknown digest if that is empty.
	Data(canonical digest.Digest) string
	// TokenKey is where the key that signs tokens is kept.
	TokenKey() string
}

// Config is what a Manager works with. All fields are required, except that
// MaxBlobSize may be zero.
type Config struct {
	Bucket drivers.Bucket
	Layout Layout
	Log    *slog.Logger

	InlineMax int64 // bytes; a blob of at most that size is not stored as data

	Settings
}

// Settings are the part of a Config that an operator chooses.
type Settings struct {
	Memory          int64         // bytes that all uploads together may hold
	PartSize        int64         // bytes; the size of the first 1,000 parts of an upload
	ParallelParts   int           // parts of one upload that are stored at a time
	SessionLifetime time.Duration // from the start of a session
	MaxWaiting      int           // uploads that may wait for memory before more are refused
	MaxBlobSize     int64         // bytes in an upload; 0 for no limit
}

// Validate returns the settings that no store allows.
func (s *Settings) Validate() error { return s.check(drivers.Limits{MaxPart: math.MaxInt64}, 0) }

// check returns the settings that a store with these limits does not allow.
func (s *Settings) check(limits drivers.Limits, inlineMax int64) error {
	var problems []error
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if least := largestShare * max(limits.MinPart, inlineMax, budget.SegmentSize); s.Memory < least {
		refuse("upload.Config.Memory: %d bytes, want at least %d for this store", s.Memory, least)
	}
	least, most := max(limits.MinPart, 1), min(s.Memory/largestShare, limits.MaxPart)
	if s.PartSize < least || s.PartSize > most {
		refuse("upload.Config.PartSize: %d bytes, want %d to %d (an eighth of upload.Config.Memory)", s.PartSize, least, most)
	}
	if s.ParallelParts < 1 {
		refuse("upload.Config.ParallelParts: %d, want 1 or more", s.ParallelParts)
	}
	if s.SessionLifetime <= 0 {
		refuse("upload.Config.SessionLifetime: %v, want more than 0", s.SessionLifetime)
	}
	if s.MaxWaiting < 0 {
		refuse("upload.Config.MaxWaiting: %d, want 0 or more", s.MaxWaiting)
	}
	if s.MaxBlobSize < 0 {
		refuse("upload.Config.MaxBlobSize: %d, want 0 or more", s.MaxBlobSize)
	}
	return errors.Join(problems...)
}

// largestShare is the share of the memory that the largest part may take.
const largestShare = 8

// Manager starts, continues and ends uploads. Replicas that share a bucket
// share its uploads.
type Manager struct {
	cfg     Config
	limits  drivers.Limits
	largest int64 // part, in bytes
	key     []byte
	memory  *budget.Budget
}

// Open returns a Manager. The first one of a bucket creates the key that tokens
// are signed with. Errors name the fields of cfg that are wrong.
func Open(ctx context.Context, cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg, limits: cfg.Bucket.Limits()}
	if err := cfg.check(m.limits, cfg.InlineMax); err != nil {
		return nil, err
	}
	m.largest = min(cfg.Memory/largestShare, m.limits.MaxPart)
	var err error
	if m.key, err = sharedKey(ctx, cfg.Bucket, cfg.Layout.TokenKey()); err != nil {
		return nil, err
	}
	m.memory = budget.New(cfg.Memory, m.largest, cfg.MaxWaiting)
	return m, nil
}

// Start starts an upload: it draws an id, and asks the store nothing.
func (m *Manager) Start(repository string, alg digest.Algorithm) Token {
	return Token{ID: uuid.NewString(), Repository: repository, Started: time.Now().UTC().Truncate(time.Second), Algorithm: alg}
}

// MinChunk returns the size from which chunks are stored as they come, in bytes,
// or 0 if the store has no such size.
func (m *Manager) MinChunk() int64 { return m.limits.MinPart }

// Memory returns how much of Config.Memory is in use.
func (m *Manager) Memory() budget.Usage { return m.memory.Usage() }

// Drain cuts off all uploads that are still receiving, and those that start later,
// for a process that shuts down: what their clients have sent is recorded, as
// when a client disconnects. It doesn't wait for that.
func (m *Manager) Drain() { m.memory.Drain() }
