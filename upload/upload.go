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

// Errors that a client can act on. Errors of the store are returned unchanged: see
// package drivers.
var (
	// ErrUnknown means that the upload does not exist: it was never started, has
	// expired, was committed, cancelled or lost, belongs to another repository,
	// or its token is forged. The client has to start again.
	ErrUnknown = errors.New("upload unknown")

	// ErrOutOfOrder means that another request continued from the same record
	// first, or that the bytes belong to another offset. Status returns where to
	// continue.
	ErrOutOfOrder = errors.New("upload is not at this offset")

	// ErrDigest means that the bytes do not have the requested digest. The upload
	// is as it was.
	ErrDigest = errors.New("bytes do not match the digest")

	// ErrTooLarge means that the upload is over Config.MaxBlobSize, or over what
	// the store can hold in the largest parts that Config.Memory allows.
	ErrTooLarge = errors.New("upload is too large")

	// ErrCut means that the upload was stopped, because its client is slow while
	// other clients wait for memory, or because the process is shutting down. What
	// came is kept, unless it came with the request to commit.
	ErrCut = errors.New("upload was cut off")

	// ErrTooMany means that too many uploads wait for memory. The client may try
	// again later.
	ErrTooMany = budget.ErrTooMany
)

// EndedError reports how a session ended that a request wanted to continue. It is
// an ErrUnknown, by errors.Is.
type EndedError struct {
	// Gone is true if the session's records no longer exist. How it ended is not
	// known then.
	Gone bool

	// Digest is the canonical digest that it was committed as, empty if it
	// was cancelled; RequestedDigest is the one that the client requested, if that is
	// another.
	Digest, RequestedDigest digest.Digest

	end    int             // number of the record that ended the session; 0 if it is the record that was read
	upload *drivers.Upload // where the data of the session may be
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

// Layout returns the keys of uploads.
type Layout interface {
	// Sessions returns the prefix of the records of all sessions. The id of a
	// session and a slash follow it.
	Sessions() string
	// Session returns the prefix of a session's records.
	Session(id string) string
	// SessionRecord returns the key of one record. Keys sort by number. The number
	// is the last element.
	SessionRecord(id string, seq int) string
	// Data returns a new data key, which no other call returns. The key is one for
	// bytes with the canonical digest, or for bytes that have no known digest if
	// that is empty.
	Data(canonical digest.Digest) string
	// TokenKey returns the key of the secret that signs tokens.
	TokenKey() string
}

// Config configures a Manager. All fields are required, except that
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

// Open returns a Manager. The first one of a bucket creates the secret that signs
// tokens. Errors name the fields of cfg that are wrong.
func Open(ctx context.Context, cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg, limits: cfg.Bucket.Limits()}
	if err := cfg.check(m.limits, cfg.InlineMax); err != nil {
		return nil, err
	}
	m.largest = min(cfg.Memory/largestShare, m.limits.MaxPart)
	var err error
	if m.key, err = SharedKey(ctx, cfg.Bucket, cfg.Layout.TokenKey()); err != nil {
		return nil, err
	}
	m.memory = budget.New(cfg.Memory, m.largest, cfg.MaxWaiting)
	return m, nil
}

// Start returns the token of a new upload. It sends no request to the store.
func (m *Manager) Start(repository string, alg digest.Algorithm) Token {
	return Token{ID: uuid.NewString(), Repository: repository, Started: time.Now().UTC().Truncate(time.Second), Algorithm: alg}
}

// MinChunk returns the minimum size of a chunk that the store takes as a part, in
// bytes, or 0 if it has none. Smaller chunks are collected in records.
func (m *Manager) MinChunk() int64 { return m.limits.MinPart }

// Memory returns how much of Config.Memory is in use.
func (m *Manager) Memory() budget.Usage { return m.memory.Usage() }

// Drain cuts off all uploads that are still receiving, and those that start later.
// It is for a process that shuts down. What the clients have sent is recorded, as
// when a client disconnects. Drain does not wait for that.
func (m *Manager) Drain() { m.memory.Drain() }
