package upload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
)

// Errors that a client can do something about. Errors of the store come
// through as they are; see package drivers.
var (
	// ErrUnknown says that there is no such upload (any more): never begun,
	// expired, committed, cancelled, lost, of another repository, or its token
	// is forged. Start again.
	ErrUnknown = errors.New("upload unknown")

	// ErrOutOfOrder says that another request went on from the same place
	// first, or that the bytes belong elsewhere. Status tells where to go on.
	ErrOutOfOrder = errors.New("upload is not at this offset")

	// ErrDigest says that the bytes don't have the digest that they were
	// committed as. The upload is as it was.
	ErrDigest = errors.New("bytes do not match the digest")

	// ErrTooLarge says that the upload is over the configured size, or what
	// the store can hold in parts of the memory there is.
	ErrTooLarge = errors.New("upload is too large")

	// ErrCut says that the upload was stopped, because its client is slow
	// while others wait for memory, or because the process is shutting down.
	// What had come is kept, unless it came with the request to commit.
	ErrCut = errors.New("upload was cut off")
)

// EndedError says how a session ended that a request wanted to go on with. It
// is an ErrUnknown.
type EndedError struct {
	// Gone is true if the session's records are no longer there: how it ended
	// isn't known.
	Gone bool

	// Digest is the canonical digest that it was committed as, empty if it
	// was cancelled; Named is the one that the client gave, if that is another.
	Digest, Named digest.Digest

	end    int             // number of the record that says so, if it is another than the one that was read
	upload *drivers.Upload // where its data may be
	size   int64
	crc    uint32
}

// Error says it for a client.
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

// Is makes it an ErrUnknown.
func (e *EndedError) Is(target error) bool { return target == ErrUnknown }

// Layout names the keys that uploads live under.
type Layout interface {
	// Session is the prefix of a session's records.
	Session(id string) string
	// SessionRecord is the key of one record, in the order of their numbers.
	SessionRecord(id string, seq int) string
	// Data draws a data key that was never used: among those of the digest, or
	// among those of bytes whose digest isn't known yet if it is empty.
	Data(canonical digest.Digest) string
	// TokenKey is where the key that signs tokens is kept.
	TokenKey() string
}

// Config is what a Manager works with. All fields are wanted but those said to
// be optional.
type Config struct {
	Bucket drivers.Bucket
	Layout Layout
	Log    *slog.Logger

	Memory        int64         // bytes that all uploads together may hold
	PartSize      int64         // bytes; parts begin with this size where nothing else decides
	ParallelParts int           // parts of one upload that are stored at once
	InlineMax     int64         // bytes; a blob up to that is not stored as data
	Lifetime      time.Duration // of a session, from its start
	RequestLimit  time.Duration // see Limit
	MaxWaiting    int           // uploads that may wait for memory before others are refused
	MaxSize       int64         // bytes in an upload; 0 for no limit
}

// largestShare is the share of the memory that the largest part may take.
const largestShare = 8

// Manager begins, continues and ends uploads. Replicas that share a bucket
// share its uploads.
type Manager struct {
	cfg     Config
	limits  drivers.Limits
	largest int64 // part, in bytes
	key     []byte
	mem     *memory
}

// Open makes a Manager, and the key that tokens are signed with if this is the
// first one of the bucket. Its errors name the configuration's key.
func Open(ctx context.Context, cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg, limits: cfg.Bucket.Limits()}
	m.largest = min(cfg.Memory/largestShare, m.limits.MaxPart)
	switch least := largestShare * max(m.limits.MinPart, cfg.InlineMax, segmentSize); {
	case cfg.Memory < least:
		return nil, fmt.Errorf("upload.memory: %d bytes, want at least %d for this store", cfg.Memory, least)
	case cfg.PartSize < max(m.limits.MinPart, 1) || cfg.PartSize > m.largest:
		return nil, fmt.Errorf("upload.part_size: %d bytes, want %d to %d (an eighth of upload.memory)",
			cfg.PartSize, max(m.limits.MinPart, 1), m.largest)
	case cfg.ParallelParts < 1:
		return nil, fmt.Errorf("upload.parallel_parts: %d, want 1 or more", cfg.ParallelParts)
	case cfg.MaxWaiting < 0:
		return nil, fmt.Errorf("upload.max_waiting: %d, want 0 or more", cfg.MaxWaiting)
	case cfg.MaxSize < 0:
		return nil, fmt.Errorf("upload.max_blob_size: %d, want 0 or more", cfg.MaxSize)
	case cfg.Lifetime <= 0:
		return nil, fmt.Errorf("upload.session_lifetime: %v, want more than 0", cfg.Lifetime)
	case cfg.RequestLimit <= 0:
		return nil, fmt.Errorf("limits.request: %v, want more than 0", cfg.RequestLimit)
	}
	var err error
	if m.key, err = sharedKey(ctx, cfg.Bucket, cfg.Layout.TokenKey()); err != nil {
		return nil, err
	}
	m.mem = newMemory(cfg.Memory, m.largest, cfg.MaxWaiting)
	return m, nil
}

// Start begins an upload: it draws an id. The store is not asked anything.
func (m *Manager) Start(repository string, alg digest.Algorithm) Token {
	return Token{ID: uuid.NewString(), Repository: repository, Started: time.Now().UTC().Truncate(time.Second), Algorithm: alg}
}

// NewLimit begins the time that one request may last.
func (m *Manager) NewLimit() Limit { return NewLimit(m.cfg.RequestLimit) }

// MinChunk is the size from which chunks are stored as they come, in bytes, or
// 0 if the store has no such size.
func (m *Manager) MinChunk() int64 { return m.limits.MinPart }

// MaxSize is the most bytes that an upload may have, or 0 for no limit.
func (m *Manager) MaxSize() int64 { return m.cfg.MaxSize }

// Drain cuts off all uploads that are still receiving, and those that begin from
// now on, for a process that shuts down: what their clients have sent is
// recorded, as when a client drops. It doesn't wait for that.
func (m *Manager) Drain() { m.mem.drain() }
