package upload

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestReadRecord reads the records of a session in each of its kinds.
func TestReadRecord(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
	tok := patch(t, m, m.Start("r", digest.SHA256), reapData[:100])
	all, part := int64(len(reapData)), m.cfg.PartSize
	wantRecord(t, m, tok, Record{Kind: KindOpen, RawSize: 100, Offset: 100})

	tok = patch(t, m, tok, reapData[100:])
	parts := []drivers.Part{{Number: 1, Size: part}, {Number: 2, Size: part}}
	wantRecord(t, m, tok, Record{Kind: KindOpen, Parts: parts, RawSize: all - 2*part, Offset: all, Upload: &drivers.Upload{}})

	tok = patch(t, m, tok, []byte("more"))
	refs := []Ref{{Seq: 2, Raw: all - 2*part, Parts: 2}}
	wantRecord(t, m, tok, Record{Kind: KindOpen, Refs: refs, RawSize: 4, Offset: all + 4, Upload: &drivers.Upload{}})

	if err := m.Cancel(t.Context(), tok, newDeadline()); err != nil {
		t.Fatal(err)
	}
	wantRecord(t, m, tok, Record{Kind: KindSpent, End: 4})
	wantRecord(t, m, tok.next(4), Record{Kind: KindCancelled, Offset: all + 4, Upload: &drivers.Upload{}})
	if KindOpen.EndsSession() || KindSpent.EndsSession() || !KindCancelled.EndsSession() || !KindCommitted.EndsSession() {
		t.Error("EndsSession is wrong, want true for the kinds committed and cancelled only")
	}
	if _, err := ReadRecord(t.Context(), m.cfg.Bucket, m.cfg.Layout.SessionRecord(tok.ID, 5)); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("ReadRecord of an absent record = %v, want %v", err, drivers.ErrNotFound)
	}
}

// wantRecord compares the record of tok with want, which leaves out what differs
// from run to run, and what all records of the session have.
func wantRecord(t *testing.T, m *Manager, tok Token, want Record) {
	t.Helper()
	got, err := ReadRecord(t.Context(), m.cfg.Bucket, m.cfg.Layout.SessionRecord(tok.ID, tok.Seq))
	if err != nil {
		t.Fatal(err)
	}
	want.Seq, want.Repository, want.Started, want.Algorithm = tok.Seq, tok.Repository, tok.Started, tok.Algorithm
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Record{}, "Modified"), cmpopts.IgnoreFields(drivers.Part{}, "Tag", "CRC32C"),
		cmpopts.IgnoreFields(drivers.Upload{}, "Key", "ID", "Started")); diff != "" || got.Modified.IsZero() {
		t.Errorf("record %d, modified %v (-want +got):\n%s", tok.Seq, got.Modified, diff)
	}
}

// TestSessions lists sessions of several lengths, all of them and after each one.
func TestSessions(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
	records := map[string]int{}
	for n := 1; n <= 4; n++ {
		tok := m.Start("r", digest.SHA256)
		for range n {
			tok = patch(t, m, tok, []byte("x"))
		}
		records[tok.ID] = n
	}
	list := func(after string) (all []Session) {
		t.Helper()
		for s, err := range reaper(m).Sessions(t.Context(), after) {
			if err != nil {
				t.Fatal(err)
			}
			if s.Records != records[s.ID] || s.Newest != s.Records || s.Modified.IsZero() {
				t.Errorf("session %+v, want %d records", s, records[s.ID])
			}
			all = append(all, s)
		}
		return all
	}
	all := list("")
	if len(all) != len(records) {
		t.Fatalf("Sessions returns %d sessions, want %d", len(all), len(records))
	}
	for i, s := range all {
		if rest := list(s.ID); len(rest) != len(all)-1-i {
			t.Errorf("Sessions after session %d of %d returns %d, want the rest", i+1, len(all), len(rest))
		}
	}
}
