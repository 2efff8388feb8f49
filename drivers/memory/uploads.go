package memory

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
)

// upload is an upload in progress. A part is identified by number and tag. If
// the store overwrites parts, there is one part per number.
type upload struct {
	drivers.Upload
	parts map[int][]part
}

type part struct {
	drivers.Part
	content drivers.Body
}

// StartUpload starts an upload.
func (b bucket) StartUpload(ctx context.Context, key string) (drivers.Upload, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Upload{}, fmt.Errorf("memory: start upload of %s: %w", key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u := drivers.Upload{Key: key, ID: fmt.Sprintf("u%012d", b.next()), Started: b.now().Truncate(time.Second)}
	if !b.Sessionless {
		b.uploads[u.ID] = &upload{u, make(map[int][]part)}
	}
	return u, nil
}

// PutPart stores a part. It returns drivers.ErrNotFound if the upload is gone,
// unless the store is sessionless.
func (b bucket) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	p, err := b.putPart(ctx, u, number, body)
	if err != nil {
		return drivers.Part{}, fmt.Errorf("memory: put part %d of %s: %w", number, u.Key, err)
	}
	return p, nil
}

func (b bucket) putPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	if err := b.checkPart(ctx, u, number); err != nil {
		return drivers.Part{}, err
	}
	if body.Size > b.Habits.Limits.MaxPart {
		return drivers.Part{}, fmt.Errorf("part of %d bytes, at most %d", body.Size, b.Habits.Limits.MaxPart)
	}
	content, tag, err := b.keep(u.Key, body, b.OverwriteParts)
	if err != nil {
		return drivers.Part{}, err
	}
	return b.stage(u, number, content, tag)
}

// StreamPart stores a part of unknown length, read from body. It returns
// errors.ErrUnsupported if the store does not stream.
func (b bucket) StreamPart(ctx context.Context, u drivers.Upload, number int, body io.Reader) (drivers.Part, error) {
	p, err := b.streamPart(ctx, u, number, body)
	if err != nil {
		return drivers.Part{}, fmt.Errorf("memory: stream part %d of %s: %w", number, u.Key, err)
	}
	return p, nil
}

func (b bucket) streamPart(ctx context.Context, u drivers.Upload, number int, body io.Reader) (drivers.Part, error) {
	if !b.Habits.Limits.Stream {
		return drivers.Part{}, errors.ErrUnsupported
	}
	if err := b.checkPart(ctx, u, number); err != nil {
		return drivers.Part{}, err
	}
	content, err := b.read(ctx, u.Key, body)
	if err != nil {
		return drivers.Part{}, err
	}
	return b.stage(u, number, content, "")
}

func (s *Store) checkPart(ctx context.Context, u drivers.Upload, number int) error {
	if number < 1 || number > s.Limits.MaxParts {
		return fmt.Errorf("part number %d, want 1 to %d", number, s.Limits.MaxParts)
	}
	return check(ctx, u.Key)
}

// stage adds the content to the upload as a part. If tag is empty, the part
// gets a tag that no other part has.
func (s *Store) stage(u drivers.Upload, number int, content drivers.Body, tag string) (drivers.Part, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := s.uploads[u.ID]
	if up == nil && s.Sessionless {
		up = &upload{u, make(map[int][]part)}
		s.uploads[u.ID] = up
	}
	if up == nil || up.Key != u.Key {
		return drivers.Part{}, drivers.ErrNotFound
	}
	if tag == "" {
		tag = fmt.Sprint(s.next())
	}
	p := part{drivers.Part{Number: number, Size: content.Size, Tag: tag, CRC32C: content.CRC32C}, content}
	if s.OverwriteParts {
		up.parts[number] = nil
	}
	up.parts[number] = append(up.parts[number], p)
	return p.Part, nil
}

// Complete creates an object of the parts. If the key is taken, it returns the
// existing object.
func (b bucket) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	o, err := b.complete(ctx, u, parts, crc32c)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("memory: complete %s: %w", u.Key, err)
	}
	return o, nil
}

func (b bucket) complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	if err := check(ctx, u.Key); err != nil {
		return drivers.Object{}, err
	}
	size, err := drivers.CheckParts(parts, crc32c, b.Habits.Limits)
	if err == nil && b.Habits.Limits.EqualParts {
		err = checkEqual(parts)
	}
	if err != nil {
		return drivers.Object{}, err
	}
	whole := drivers.Body{Size: size, CRC32C: crc32c}
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.objects[u.Key]; ok {
		return o.Object, nil
	}
	up := b.uploads[u.ID]
	if up == nil || up.Key != u.Key {
		return drivers.Object{}, drivers.ErrNotFound
	}
	pins := sha256.New()
	for _, want := range parts {
		p, ok := up.find(want)
		if !ok {
			return drivers.Object{}, fmt.Errorf("part %d: %w", want.Number, drivers.ErrChanged)
		}
		whole.Segments = append(whole.Segments, p.content.Segments...)
		fmt.Fprintln(pins, p.Tag)
	}
	o := object{drivers.Object{Key: u.Key, Size: whole.Size, Modified: b.now()}, whole}
	o.Tag = fmt.Sprintf("%x-%d", pins.Sum(nil)[:16], len(parts))
	if b.Generations {
		o.Tag = fmt.Sprint(b.next())
	}
	if b.DatedByStart {
		o.Modified = up.Started
	}
	b.forget(up, parts)
	return b.put(o), nil
}

// checkEqual returns an error unless all parts have the same size. The last one
// may be smaller.
func checkEqual(parts []drivers.Part) error {
	for i, p := range parts {
		if first := parts[0].Size; p.Size > first || p.Size < first && i < len(parts)-1 {
			return fmt.Errorf("part %d has %d bytes, and the first has %d", p.Number, p.Size, first)
		}
	}
	return nil
}

// find returns the stored part that equals want in every field.
func (up *upload) find(want drivers.Part) (part, bool) {
	i := slices.IndexFunc(up.parts[want.Number], func(p part) bool { return p.Part == want })
	if i < 0 {
		return part{}, false
	}
	return up.parts[want.Number][i], true
}

// forget deletes the upload. If the store is sessionless and keeps parts, parts
// that the completion did not use stay, and with them the upload.
func (s *Store) forget(up *upload, used []drivers.Part) {
	if s.Sessionless && !s.DropsParts {
		for _, p := range used {
			up.parts[p.Number] = slices.DeleteFunc(up.parts[p.Number], func(q part) bool { return q.Part == p })
			if len(up.parts[p.Number]) == 0 {
				delete(up.parts, p.Number)
			}
		}
		if len(up.parts) > 0 {
			return
		}
	}
	delete(s.uploads, up.ID)
}

// Abort deletes the upload's staged parts, unless the store drops parts by
// itself.
func (b bucket) Abort(ctx context.Context, u drivers.Upload) error {
	if err := check(ctx, u.Key); err != nil {
		return fmt.Errorf("memory: abort %s: %w", u.Key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if up := b.uploads[u.ID]; up != nil && up.Key == u.Key && !b.DropsParts {
		delete(b.uploads, u.ID)
	}
	return nil
}

// Uploads returns the uploads that are in progress when the iteration starts,
// in the order in which they were started.
func (b bucket) Uploads(ctx context.Context, prefix string) iter.Seq2[drivers.Upload, error] {
	return func(yield func(drivers.Upload, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(drivers.Upload{}, fmt.Errorf("memory: list uploads of %s: %w", prefix, err))
			return
		}
		for _, u := range b.inProgress(prefix) {
			if !yield(u, nil) {
				return
			}
		}
	}
}

func (s *Store) inProgress(prefix string) []drivers.Upload {
	if s.DropsParts {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []drivers.Upload
	for _, up := range s.uploads {
		if strings.HasPrefix(up.Key, prefix) {
			found = append(found, up.Upload)
		}
	}
	slices.SortFunc(found, func(a, b drivers.Upload) int { return cmp.Compare(a.ID, b.ID) })
	return found
}
