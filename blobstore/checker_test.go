package blobstore

import (
	"bytes"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// The checker must find what it looks for: each of these does to a sound bucket
// one thing that berth never may.
func TestCheckerFinds(t *testing.T) {
	const repo = "library/x"
	small, large := randomBytes(1, 100), randomBytes(2, 300<<10)
	ds, dl := digest.FromBytes(small), digest.FromBytes(large)

	rewrite := func(t *testing.T, b drivers.Bucket, key string, change func(*record)) {
		t.Helper()
		s, err := envelope.Read[record](t.Context(), b, key)
		if err != nil {
			t.Fatal(err)
		}
		change(&s.Value)
		if _, err := envelope.Replace(t.Context(), b, key, s.Object.Tag, s.Value, drivers.NewBody(s.Raw)); err != nil {
			t.Fatal(err)
		}
	}
	create := func(t *testing.T, b drivers.Bucket, key string, p []byte) {
		t.Helper()
		if _, err := b.Create(t.Context(), key, drivers.NewBody(p)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, b drivers.Bucket, key string) {
		t.Helper()
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	session := func(t *testing.T, b drivers.Bucket, s *Store, u Upload, seq int, e sessionRecord) {
		t.Helper()
		token, err := s.uploads.Verify(u.State)
		if err != nil {
			t.Fatal(err)
		}
		e.Repository, e.Started, e.Algorithm = token.Repository, token.Started, token.Algorithm
		if _, err := envelope.Create(t.Context(), b, layout{}.SessionRecord(u.ID, seq), e, drivers.Body{}); err != nil {
			t.Fatal(err)
		}
	}
	data := func(t *testing.T, b drivers.Bucket) string {
		t.Helper()
		s, err := envelope.Read[record](t.Context(), b, layout{}.record(dl))
		if err != nil {
			t.Fatal(err)
		}
		return s.Value.Data
	}

	breaks := map[string]func(t *testing.T, b drivers.Bucket, s *Store, u Upload){
		"a record of other bytes": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			rewrite(t, b, layout{}.record(dl), func(r *record) { r.Data = ""; r.Size = 0 })
		},
		"a record of another size": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			rewrite(t, b, layout{}.record(ds), func(r *record) { r.Size++ })
		},
		"a record with a wrong CRC": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			rewrite(t, b, layout{}.record(dl), func(r *record) { r.CRC32C++ })
		},
		"a record without its data": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			remove(t, b, data(t, b))
		},
		"a record of another digest": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			rewrite(t, b, layout{}.record(ds), func(r *record) { r.Digest = dl })
		},
		"a link without a record": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			remove(t, b, layout{}.record(ds))
		},
		"a link to other bytes": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			rewrite(t, b, layout{}.link(ds, repo), func(r *record) { r.Data = data(t, b) })
		},
		"no link": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			remove(t, b, layout{}.link(ds, repo))
		},
		"a link marked damaged": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			rewrite(t, b, layout{}.link(ds, repo), func(r *record) { r.State = damaged })
		},
		"bytes under another digest": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			create(t, b, layout{}.Data(ds), large)
		},
		"bytes that no session has bound": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			create(t, b, layout{}.Data(""), large)
		},
		"bytes of another digest than they are bound to": func(t *testing.T, b drivers.Bucket, s *Store, u Upload) {
			key := layout{}.Data("")
			session(t, b, s, u, 3, sessionRecord{Kind: "committed", Upload: &drivers.Upload{Key: key}, Digest: ds})
			create(t, b, key, large)
		},
		"one data key for two digests": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			dead := deadData{Digest: ds, Data: data(t, b)}
			if _, err := envelope.Create(t.Context(), b, layout{}.dead(), dead, drivers.Body{}); err != nil {
				t.Fatal(err)
			}
		},
		"a false alias of data": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			if _, err := envelope.Create(t.Context(), b, layout{}.alias(digest.SHA512.FromBytes(small)), alias{Digest: dl}, drivers.Body{}); err != nil {
				t.Fatal(err)
			}
		},
		"a false alias of an inline blob": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			if _, err := envelope.Create(t.Context(), b, layout{}.alias(digest.SHA512.FromBytes(large)), alias{Digest: ds}, drivers.Body{}); err != nil {
				t.Fatal(err)
			}
		},
		"an alias without a record": func(t *testing.T, b drivers.Bucket, _ *Store, _ Upload) {
			p := []byte("not here")
			if _, err := envelope.Create(t.Context(), b, layout{}.alias(digest.SHA512.FromBytes(p)), alias{Digest: digest.FromBytes(p)}, drivers.Body{}); err != nil {
				t.Fatal(err)
			}
		},
		"a gap in a session": func(t *testing.T, b drivers.Bucket, s *Store, u Upload) {
			session(t, b, s, u, 4, sessionRecord{Kind: "cancelled"})
		},
		"a session that goes on after its end": func(t *testing.T, b drivers.Bucket, s *Store, u Upload) {
			session(t, b, s, u, 3, sessionRecord{Kind: "cancelled"})
			session(t, b, s, u, 4, sessionRecord{Kind: "cancelled"})
		},
		"a session that loses bytes": func(t *testing.T, b drivers.Bucket, s *Store, u Upload) {
			session(t, b, s, u, 3, sessionRecord{Kind: "open", Offset: 1, Parts: []drivers.Part{{Number: 1, Size: 1}}})
		},
		"a session spent for no end": func(t *testing.T, b drivers.Bucket, s *Store, u Upload) {
			session(t, b, s, u, 3, sessionRecord{Kind: "spent", End: 4})
		},
	}
	for name, doIt := range breaks {
		t.Run(name, func(t *testing.T) {
			b := buckets(t)["S3"](t)
			s := openStore(t, b, smallParts())
			r := repository(t, s, repo)
			var l ledger
			for _, p := range [][]byte{small, large} {
				answered := l.pushing(repo, digest.FromBytes(p), p)
				_, err := r.Put(t.Context(), "", p)
				answered(err)
			}
			u, err := r.StartUpload("")
			for range 2 {
				if err == nil {
					u, err = r.AppendUpload(t.Context(), u.ID, u.State, Body{bytes.NewReader(small), -1, -1, nil})
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			mustHold(t, b, &l)
			doIt(t, b, s, u)
			if violations(t.Context(), b, &l) == nil {
				t.Error("the checker finds nothing")
			}
		})
	}
}
