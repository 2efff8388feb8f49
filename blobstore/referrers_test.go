package blobstore

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// referring returns the manifest with a subject.
func (put ManifestPut) referring(subject digest.Digest) ManifestPut {
	return put.with("subject", refTo(manifest.MediaTypeImage, subject))
}

// referrers returns what Referrers returns.
func (p *pushes) referrers(subject, after digest.Digest) (all []ManifestDescriptor) {
	p.t.Helper()
	for desc, err := range p.Manifests().Referrers(p.t.Context(), subject, after) {
		if err != nil {
			p.t.Errorf("Referrers(%s, %q): %v", subject, after, err)
			continue
		}
		all = append(all, desc)
	}
	return all
}

func digestsOf(descs []ManifestDescriptor) (digests []digest.Digest) {
	for _, desc := range descs {
		digests = append(digests, desc.Digest)
	}
	return digests
}

// TestReferrers describes the referrers of a subject that does not exist, with all their
// annotations, in the order of their digests.
func TestReferrers(t *testing.T) {
	p := newPushes(t, Config{})
	config := p.blob("config")
	subject := digest.FromString("subject")
	annotations := map[string]string{"a": "1", "b": strings.Repeat("x", 1000)}
	long := map[string]string{"k": strings.Repeat("v", 2*envelope.MaxRaw)}
	want := map[digest.Digest]ManifestDescriptor{}
	add := func(put ManifestPut, mediaType, artifactType string, annotations map[string]string) {
		put = put.referring(subject)
		p.mustPut(put)
		want[put.Digest] = ManifestDescriptor{
			Descriptor:   Descriptor{MediaType: mediaType, Size: int64(len(put.Content)), Digest: put.Digest, Annotations: annotations},
			ArtifactType: artifactType, Subject: subject,
		}
	}
	const configType = "application/vnd.oci.image.config.v1+json"
	add(imageOf(config), manifest.MediaTypeImage, configType, nil)
	add(imageOf(config).with("annotations", annotations), manifest.MediaTypeImage, configType, annotations)
	add(imageOf(config).with("artifactType", "x/y").with("annotations", long), manifest.MediaTypeImage, "x/y", long)
	add(indexOf(), manifest.MediaTypeIndex, "", nil)
	add(indexOf().with("artifactType", "x/z"), manifest.MediaTypeIndex, "x/z", nil)
	other := imageOf(config).referring(digest.FromString("another subject"))
	p.mustPut(other)

	for range 2 { // cold and warm
		got := p.referrers(subject, "")
		if digests := digestsOf(got); len(got) != len(want) || !slices.IsSorted(digests) {
			t.Errorf("Referrers = %v, want %d in order", digests, len(want))
		}
		for _, desc := range got {
			if diff := cmp.Diff(want[desc.Digest], desc); diff != "" {
				t.Errorf("Referrers describes %s (-want +got):\n%s", desc.Digest, diff)
			}
		}
		all := digestsOf(got)
		for i, after := range all {
			if rest := digestsOf(p.referrers(subject, after)); !slices.Equal(rest, all[i+1:]) {
				t.Errorf("Referrers after %s = %v, want %v", after, rest, all[i+1:])
			}
		}
	}
	if got := p.referrers(digest.SHA512.FromString("subject"), ""); got != nil {
		t.Errorf("Referrers of an unknown subject = %v, want none", got)
	}
	for _, test := range []struct{ subject, after digest.Digest }{{"", ""}, {"sha256:x", ""}, {subject, "x"}} {
		for _, err := range p.Manifests().Referrers(t.Context(), test.subject, test.after) {
			if _, ok := errors.AsType[ErrBlobInvalidDigest](err); !ok {
				t.Errorf("Referrers(%q, %q) = %v, want an ErrBlobInvalidDigest", test.subject, test.after, err)
			}
		}
	}
}

// TestReferrersThatDoNotCount lists entries whose manifest was deleted, was never stored,
// is condemned, or is damaged. Only the condemned one counts.
func TestReferrersThatDoNotCount(t *testing.T) {
	p := newPushes(t, Config{})
	config := p.blob("config")
	subject := digest.FromString("subject")
	var puts []ManifestPut
	for i := range 4 {
		puts = append(puts, imageOf(config).with("n", i).referring(subject))
		p.mustPut(puts[i])
	}
	p.mustDelete(puts[0].Digest)
	p.changeManifest(puts[1].Digest, markCondemned)
	p.damage(puts[2].Digest)
	absent := digest.FromString("killed before the manifest was written")
	must(t, catalog.New(p.bucket).WriteEntry(t.Context(), p.s.newDeadline(), pushRepo, subject, absent))
	want := []digest.Digest{puts[1].Digest, puts[3].Digest}
	slices.Sort(want)
	if got := digestsOf(p.referrers(subject, "")); !slices.Equal(got, want) {
		t.Errorf("Referrers = %v, want %v", got, want)
	}
	if got := p.stored(puts[1].Digest).Value.State; got != catalog.Condemned {
		t.Errorf("Referrers leaves the manifest %s, want condemned", got)
	}
	// They count again once they are pushed again.
	p.mustPut(puts[0])
	p.mustPut(puts[2])
	if got := p.referrers(subject, ""); len(got) != 4 {
		t.Errorf("Referrers = %v, want all 4", digestsOf(got))
	}
}

// TestReferrersCounts counts the requests of a list of 100 referrers, cold and warm, and
// of one whose caller stops early.
func TestReferrersCounts(t *testing.T) {
	p := newPushes(t, Config{})
	config := p.blob("config")
	subject := digest.FromString("subject")
	for i := range 100 {
		p.mustPut(imageOf(config).with("n", i).referring(subject))
	}
	p.calls = nil
	for _, err := range p.Manifests().Referrers(t.Context(), subject, "") {
		must(t, err)
		break
	}
	if n := len(p.calls); n > 1+maxParallel {
		t.Errorf("the first referrer takes %d requests, want at most %d", n, 1+maxParallel)
	}
	p = newPushesOn(t, p.bucket, Config{})
	for what, requests := range map[string]int{"cold": 101, "warm": 1} {
		if what == "warm" {
			p.referrers(subject, "")
		}
		p.calls = nil
		if got := p.referrers(subject, ""); len(got) != 100 || len(p.calls) != requests {
			t.Errorf("%s: %d referrers with %d requests, want 100 with %d", what, len(got), len(p.calls), requests)
		}
		p = newPushesOn(t, p.bucket, Config{})
	}
}

// TestReferrersFail checks that an error of the store ends the list.
func TestReferrersFail(t *testing.T) {
	p := newPushes(t, Config{})
	subject := digest.FromString("subject")
	put := imageOf(p.blob("config")).referring(subject)
	long := longImage(p.blob("config")).referring(subject)
	p.mustPut(put)
	p.mustPut(long)
	for _, kind := range []string{"List entry", manifestRead} {
		for nth := 1; nth <= 2; nth++ {
			if kind == "List entry" && nth > 1 {
				continue
			}
			q := newPushesOn(t, p.bucket, Config{})
			q.intercept = (&drivertest.Faulty{Nth: nth, Err: drivers.ErrBusy, Match: func(c drivertest.Call) bool { return isCall(c, kind) }}).Intercept
			var last error
			for _, err := range q.Manifests().Referrers(t.Context(), subject, "") {
				if last != nil {
					t.Errorf("the list continues after %v", last)
				}
				last = err
			}
			if !errors.Is(last, ErrUnavailable) {
				t.Errorf("Referrers with %s %d failing = %v, want ErrUnavailable", kind, nth, last)
			}
		}
	}
}

// TestLongReferrers lists long manifests for many callers at a time. The annotations of
// only a few of them are in memory.
func TestLongReferrers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPushes(t, Config{})
		config := p.blob("config")
		subject := digest.FromString("subject")
		for i := range 3 {
			p.mustPut(longImage(config).with("n", i).referring(subject))
		}
		m := p.another().Manifests()
		var mu sync.Mutex
		held, most := 0, 0
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				n := 0
				for desc, err := range m.Referrers(t.Context(), subject, "") {
					if err != nil || len(desc.Annotations["k"]) != 2*envelope.MaxRaw {
						t.Errorf("a referrer has the annotation of %d bytes, %v", len(desc.Annotations["k"]), err)
					}
					n++
					mu.Lock()
					held++
					most = max(most, held)
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					held--
					mu.Unlock()
				}
				if n != 3 {
					t.Errorf("%d referrers, want 3", n)
				}
			})
		}
		wg.Wait()
		if most != maxLongReferrers {
			t.Errorf("%d descriptions of long manifests were in memory at a time, want %d", most, maxLongReferrers)
		}
	})
}
