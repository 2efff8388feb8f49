package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/upload"
)

// Inventory is everything in a bucket.
type Inventory struct {
	Records  map[digest.Digest]catalog.StoredRecord
	Links    map[string]catalog.StoredRecord // by key
	Aliases  map[digest.Digest]catalog.Alias
	Sessions map[string][]upload.Record // by id, in order
	Dead     []catalog.Dead
	Data     map[string]Content

	Manifests map[string]Manifest             // by key
	Tags      map[string]catalog.StoredTag    // by key
	Entries   map[string]catalog.StoredEntry  // by key
	Markers   map[string]catalog.StoredMarker // by repository
}

// Content is what the bytes of an object turn out to be.
type Content struct {
	SHA256 digest.Digest
	SHA512 digest.Digest
	Size   int64
	CRC32C uint32
}

func contentOf(p []byte) Content {
	return Content{digest.FromBytes(p), digest.SHA512.FromBytes(p), int64(len(p)), drivers.UpdateCRC32C(0, p)}
}

// endsChain reports whether a record was created to end its session. A record that
// was replaced in place, by a request that needed none of the session's parts, has
// no upload, and others may follow it.
func endsChain(r upload.Record) bool {
	return r.Kind == upload.KindCancelled || r.Kind == upload.KindCommitted && r.Upload != nil
}

// Read reads the whole bucket. It returns an error for a key that berth does not
// make.
func (c *Invariants) Read(ctx context.Context, b drivers.Bucket) (*Inventory, error) {
	inv := &Inventory{
		Records:  map[digest.Digest]catalog.StoredRecord{},
		Links:    map[string]catalog.StoredRecord{},
		Aliases:  map[digest.Digest]catalog.Alias{},
		Sessions: map[string][]upload.Record{},
		Data:     map[string]Content{},

		Manifests: map[string]Manifest{},
		Tags:      map[string]catalog.StoredTag{},
		Entries:   map[string]catalog.StoredEntry{},
		Markers:   map[string]catalog.StoredMarker{},
	}
	for o, err := range b.List(ctx, "", "", 0) {
		if err == nil {
			err = c.readObject(ctx, b, inv, o.Key)
		}
		if errors.Is(err, drivers.ErrNotFound) {
			continue // deleted since it was listed
		}
		if err != nil {
			return nil, fmt.Errorf("inventory: %s: %w", o.Key, err)
		}
	}
	return inv, nil
}

// foreignPrefix is the prefix of what another registry has left.
const foreignPrefix = "docker/"

func (c *Invariants) readObject(ctx context.Context, b drivers.Bucket, inv *Inventory, key string) (err error) {
	switch {
	case strings.HasPrefix(key, catalog.BlobsPrefix):
		return c.readBlob(ctx, b, inv, key)
	case strings.HasPrefix(key, catalog.AliasesPrefix):
		s, err := readOnce[catalog.Alias](ctx, c, b, key)
		inv.Aliases[digestInKey(key)] = s.Value
		return err
	case strings.HasPrefix(key, catalog.UploadsPrefix):
		r, err := once(ctx, c, b, key, func() (upload.Record, error) { return upload.ReadRecord(ctx, b, key) })
		id := path.Base(path.Dir(key))
		inv.Sessions[id] = append(inv.Sessions[id], r)
		return err
	case strings.HasPrefix(key, drivers.BulkPrefix):
		inv.Data[key], err = c.hash(ctx, b, key)
		return err
	case strings.HasPrefix(key, catalog.DeadPrefix):
		s, err := readOnce[catalog.Dead](ctx, c, b, key)
		inv.Dead = append(inv.Dead, s.Value)
		return err
	case strings.HasPrefix(key, catalog.ReposPrefix), strings.HasPrefix(key, catalog.MarkersPrefix):
		return c.readRepository(ctx, b, inv, key)
	case strings.HasPrefix(key, catalog.MetaPrefix), strings.HasPrefix(key, foreignPrefix):
		return nil
	default:
		return errors.New("no key of berth")
	}
}

func (c *Invariants) readBlob(ctx context.Context, b drivers.Bucket, inv *Inventory, key string) error {
	d, isRecord := catalog.ParseRecordKey(key)
	_, _, isLink := catalog.ParseLinkKey(key)
	if !isRecord && !isLink {
		return errors.New("neither a record nor a link")
	}
	s, err := readOnce[catalog.Record](ctx, c, b, key)
	if isRecord {
		inv.Records[d] = s
	} else {
		inv.Links[key] = s
	}
	return err
}

// readRepository reads an object of a repository, or its marker.
func (c *Invariants) readRepository(ctx context.Context, b drivers.Bucket, inv *Inventory, key string) (err error) {
	if _, _, ok := catalog.ParseManifestKey(key); ok {
		inv.Manifests[key], err = once(ctx, c, b, key, func() (Manifest, error) { return readManifest(ctx, b, key) })
	} else if _, _, ok := catalog.ParseTagKey(key); ok {
		inv.Tags[key], err = readOnce[catalog.Tag](ctx, c, b, key)
	} else if _, _, _, ok := catalog.ParseEntryKey(key); ok {
		inv.Entries[key], err = readOnce[catalog.Entry](ctx, c, b, key)
	} else if name, ok := catalog.ParseMarkerKey(key); ok {
		inv.Markers[name], err = readOnce[catalog.Marker](ctx, c, b, key)
	} else {
		err = errors.New("no key of berth")
	}
	return err
}

// Manifest is a manifest as it is stored in the bucket, and what it is. A deleted one has
// no content and refers to nothing.
type Manifest struct {
	catalog.StoredManifest

	Content Content
	Parsed  manifest.Manifest
	Err     error // of parsing it
}

// readManifest reads a manifest of any length.
func readManifest(ctx context.Context, b drivers.Bucket, key string) (Manifest, error) {
	s, err := envelope.Read[catalog.Manifest](ctx, b, key)
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{StoredManifest: s}
	if !s.Value.Readable() {
		return m, nil
	}
	raw := s.Raw
	if int64(len(raw)) < s.RawSize {
		if m.StoredManifest, raw, err = loadManifest(ctx, b, key); err != nil {
			return Manifest{}, err
		}
	}
	m.Content = contentOf(raw)
	m.Parsed, m.Err = manifest.Parse(m.Value.MediaType, raw)
	return m, nil
}

func loadManifest(ctx context.Context, b drivers.Bucket, key string) (catalog.StoredManifest, []byte, error) {
	s, r, err := envelope.Open[catalog.Manifest](ctx, b, key)
	if err != nil {
		return s, nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	return s, raw, err
}

// digestInKey returns the digest in the key of an alias or of data. It returns
// none for a key that was made before the digest was known, and for data of another
// registry.
func digestInKey(key string) digest.Digest {
	f := strings.Split(key, "/")
	if len(f) < 4 || f[1] == "new" || strings.HasPrefix(key, foreignPrefix) {
		return ""
	}
	return digest.NewDigestFromEncoded(digest.Algorithm(f[1]), f[3])
}

// once returns the result of read for this version of an object, and calls it
// once for each version.
func once[T any](ctx context.Context, c *Invariants, b drivers.Bucket, key string, read func() (T, error)) (T, error) {
	var none T
	o, err := b.Stat(ctx, key)
	if err != nil {
		return none, err
	}
	version := key + " " + o.Tag
	if v, ok := c.seen[version].(T); ok {
		return v, nil
	}
	v, err := read()
	if c.seen == nil {
		c.seen = map[string]any{}
	}
	if err == nil {
		c.seen[version] = v
	}
	return v, err
}

func readOnce[T any](ctx context.Context, c *Invariants, b drivers.Bucket, key string) (envelope.Stored[T], error) {
	return once(ctx, c, b, key, func() (envelope.Stored[T], error) { return envelope.Read[T](ctx, b, key) })
}

// hash reads the bytes of an object.
func (c *Invariants) hash(ctx context.Context, b drivers.Bucket, key string) (Content, error) {
	return once(ctx, c, b, key, func() (Content, error) {
		rc, _, err := b.Open(ctx, key, 0, -1)
		if err != nil {
			return Content{}, err
		}
		defer rc.Close()
		p, err := io.ReadAll(rc)
		return contentOf(p), err
	})
}

// contentOf returns the bytes that a record or a link leads to. It returns false
// if they are not there.
func (inv *Inventory) contentOf(s catalog.StoredRecord) (Content, bool) {
	if s.Value.Data == "" {
		return contentOf(s.Raw), true
	}
	c, ok := inv.Data[s.Value.Data]
	return c, ok
}
