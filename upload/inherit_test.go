package upload

import (
	"bytes"
	"encoding/json"
	mathrand "math/rand/v2"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

func TestRefEncoding(t *testing.T) {
	want := []ref{{1, 65_536, 0}, {7, 0, 3}}
	p, err := json.Marshal(want)
	if err != nil || string(p) != "[[1,65536,0],[7,0,3]]" {
		t.Fatalf("Marshal = %s, %v", p, err)
	}
	var got []ref
	if err := json.Unmarshal(p, &got); err != nil || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("Unmarshal = %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{`[1,2]`, `[1,2,3,4]`, `[1,-2,3]`, `[1,2,9223372036854775807]`, `{}`, `["1",2,3]`, `[1.5,2,3]`} {
		var r ref
		if err := json.Unmarshal([]byte(bad), &r); err == nil {
			t.Errorf("Unmarshal(%s) = %+v, want an error", bad, r)
		}
	}
}

// TestTakeOver simulates requests of many sizes. No record has more than 64
// references, and a byte is rewritten a few times only.
func TestTakeOver(t *testing.T) {
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	random := func(int) int64 { return 1 << rng.IntN(18) }
	equal := func(int) int64 { return 300 }
	// Small requests after large ones: if only the newest record were taken over,
	// each of them would rewrite 1 MiB.
	wedged := func(i int) int64 {
		switch i {
		case 62:
			return 2 << 20
		case 63:
			return 1 << 20
		}
		return 300
	}
	falling := func(i int) int64 { return max(1, int64(1)<<20>>(i%20)) }
	for name, tt := range map[string]struct {
		size     func(i int) int64
		requests int
		most     float64 // times that a byte is written
	}{
		"equal, once":  {equal, 64, 1},
		"equal, twice": {equal, 64 * 65 / 2, 2},
		"equal, more":  {equal, 40_000, 3},
		"random":       {random, 5000, 5},
		"wedged":       {wedged, 20_000, 4},
		"falling":      {falling, 2000, 4},
	} {
		var refs []ref
		var brought, written int64
		for i := range tt.requests {
			raw := tt.size(i)
			brought += raw
			from := takeOver(refs)
			for _, r := range refs[from:] {
				raw += r.Raw
			}
			if refs = refs[:from]; len(refs) > maxRefs {
				t.Fatalf("%s: record %d has %d references, want at most %d", name, i, len(refs), maxRefs)
			}
			refs = append(refs, ref{Seq: i + 1, Raw: raw})
			written += raw
		}
		if times := float64(written) / float64(brought); times > tt.most {
			t.Errorf("%s: each byte is written %.2f times, want at most %.0f", name, times, tt.most)
		}
	}
}

// TestAppendReadsTheNewestRecord checks that a PATCH reads the record that it
// follows and creates the next one, unless a part is full or there are too many
// references.
func TestAppendReadsTheNewestRecord(t *testing.T) {
	for name, habits := range map[string]membucket.Habits{"S3": smallS3(), "directory": streaming()} {
		t.Run(name, func(t *testing.T) {
			counter := &drivertest.Counter{}
			m := replica(t, &membucket.Store{Habits: habits}, counter.Intercept)
			const chunk = 300 // too large to be repeated
			data := randomBytes(80, 200*chunk)
			tok := m.Start("r", digest.SHA256)
			dear := 0
			for i := range 200 {
				counter.Reset()
				tok = patchFrom(t, m, tok, name, bytes.NewReader(data[i*chunk:(i+1)*chunk]), chunk)
				calls := counter.ByMethod()
				if i > 0 && calls["Open"] != 1 || calls["Create"] != 1 || calls["List"] != 0 {
					if dear++; calls["Open"] > 65 || calls["Create"] != 1 || calls["List"] != 0 {
						t.Errorf("PATCH %d makes the calls %v, want one Create and no List", i, calls)
					}
				}
				if s := readRecord(t, m, tok); len(s.Value.Refs) > maxRefs {
					t.Fatalf("record %d has %d references, want at most %d", tok.Seq, len(s.Value.Refs), maxRefs)
				}
			}
			if dear > 5 {
				t.Errorf("%d of 200 PATCHes read older records, want at most 5", dear)
			}
			wantCommit(t, m, tok, nil, data)
			wantIdle(t, m)
		})
	}
}

// TestSmallContentIsRepeated checks that the records of large PATCHes repeat the
// list of parts, so that the end reads one record, and that tiny PATCHes need few
// references.
func TestSmallContentIsRepeated(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
	data := randomBytes(81, 20*128*kiB)
	tok := m.Start("r", digest.SHA256)
	for i := range int64(10) {
		tok = patch(t, m, tok, data[i*256*kiB:(i+1)*256*kiB])
		if refs := readRecord(t, m, tok).Value.Refs; len(refs) > 0 {
			t.Fatalf("the record of PATCH %d has the references %v, want none", i, refs)
		}
	}
	wantCommit(t, m, tok, nil, data)

	tok = m.Start("r", digest.SHA256)
	for i := range 1000 {
		tok = patch(t, m, tok, data[i:i+1])
	}
	if refs := readRecord(t, m, tok).Value.Refs; len(refs) > 4 {
		t.Errorf("the record of the 1,000th PATCH of a byte has %d references, want at most 4", len(refs))
	}
	wantCommit(t, m, tok, nil, data[:1000])
}

// TestOldRecords continues from a record without references, as earlier releases
// created them. Such a record holds everything.
func TestOldRecords(t *testing.T) {
	store := &membucket.Store{Habits: smallS3()}
	m := replica(t, store, nil)
	data := randomBytes(82, 400*kiB)
	tok := patch(t, m, m.Start("r", digest.SHA256), data[:300*kiB])
	s := readRecord(t, m, tok)
	if len(s.Value.Refs) > 0 || s.Value.PartsCRC != 0 || len(s.Value.Parts) != 2 || s.RawSize != 44*kiB {
		t.Fatalf("record 1 = %+v, with %d raw bytes, want one as of earlier releases", s.Value, s.RawSize)
	}
	for _, n := range []int64{100, 60 * kiB} {
		next := patch(t, m, tok, data[300*kiB:300*kiB+n])
		wantCommit(t, m, next, data[300*kiB+n:], data)
		tok = patch(t, m, m.Start("r", digest.SHA256), data[:300*kiB])
	}
}
