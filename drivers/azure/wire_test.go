package azure

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// wire is a transport between the driver and a service.
type wire func(*http.Request) (*http.Response, error)

func (w wire) RoundTrip(req *http.Request) (*http.Response, error) { return w(req) }

// bySAS returns cfg with a SAS as the credential, and the transport to the server.
// With a SAS requests aren't signed, so a transport can change them.
func bySAS(t *testing.T, cfg Config) (Config, http.RoundTripper) {
	t.Helper()
	cfg.SAS, cfg.SharedKey = containerSAS(t, cfg), ""
	return cfg, cfg.Transport
}

// wantNoClaim fails the test unless err is an error that makes no claim about the
// key.
func wantNoClaim(t *testing.T, err error, what string) {
	t.Helper()
	if err == nil || claims(err) || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%s = %v, want an error that makes no claim", what, err)
	}
}

// losing loses the first response for each method and key. It calls before with
// the request first.
func losing(server http.RoundTripper, before func(*http.Request)) wire {
	var mu sync.Mutex
	lost := make(map[string]bool)
	return func(req *http.Request) (*http.Response, error) {
		key := req.Method + " " + req.URL.Path + " " + req.URL.Query().Get("comp")
		mu.Lock()
		first := !lost[key] && (req.Method == http.MethodPut || req.Method == http.MethodDelete)
		lost[key] = true
		mu.Unlock()
		if !first || strings.Contains(key, drivers.PartsPrefix) {
			return server.RoundTrip(req)
		}
		if before != nil {
			before(req)
		}
		resp, err := server.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		return nil, io.ErrUnexpectedEOF
	}
}

// testLostResponses loses the first response to every write. The retry then finds
// the effect of the first try.
func testLostResponses(t *testing.T, cfg Config) {
	ctx := t.Context()
	cfg, server := bySAS(t, cfg)
	other := open(t, cfg)
	cfg.Transport = losing(server, nil)
	b := open(t, cfg)

	first, second := drivers.NewBody([]byte("first, "), []byte("in two")), drivers.NewBody([]byte("second"))
	created, err := b.Create(ctx, "k", first)
	if existing, _ := other.Stat(ctx, "k"); err != nil || created != existing {
		t.Fatalf("Create = %+v, %v, want the existing %+v", created, err, existing)
	}
	cfg.Transport = losing(server, nil)
	b = open(t, cfg)
	replaced, err := b.Replace(ctx, "k", created.Tag, second)
	if existing, _ := other.Stat(ctx, "k"); err != nil || replaced != existing || replaced.Tag == created.Tag {
		t.Fatalf("Replace = %+v, %v, want the existing %+v", replaced, err, existing)
	}
	if err := b.DeleteIf(ctx, "k", replaced.Tag); err != nil {
		t.Errorf("DeleteIf = %v", err)
	}
	if _, err := other.Stat(ctx, "k"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Stat after DeleteIf = %v, want %v", err, drivers.ErrNotFound)
	}

	u, _ := b.StartUpload(ctx, "data/u")
	p, err := b.PutPart(ctx, u, 1, first)
	if err != nil {
		t.Fatal(err)
	}
	if o, err := b.Complete(ctx, u, []drivers.Part{p}, p.CRC32C); err != nil || o.Size != first.Size {
		t.Errorf("Complete = %+v, %v, want %d bytes", o, err, first.Size)
	}
}

// testLostResponsesAndAnotherWriter has another writer act between the two tries
// of a write, so that the outcome of the first try is unknown.
func testLostResponsesAndAnotherWriter(t *testing.T, cfg Config) {
	ctx := t.Context()
	cfg, server := bySAS(t, cfg)
	other := open(t, cfg)
	mine, theirs := drivers.NewBody([]byte("mine")), drivers.NewBody([]byte("their"))
	existing, err := other.Create(ctx, "existing", theirs)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Transport = losing(server, func(req *http.Request) {
		key, _ := strings.CutPrefix(req.URL.Path, "/"+cfg.Account+"/"+cfg.Container+"/")
		switch key {
		case "taken":
			_, err = other.Create(ctx, key, theirs)
		case "existing":
			_, err = other.Replace(ctx, key, existing.Tag, theirs)
		}
		if err != nil {
			t.Error(err)
		}
	})
	b := open(t, cfg)
	_, err = b.Create(ctx, "taken", mine)
	wantNoClaim(t, err, "Create")
	_, err = b.Replace(ctx, "existing", existing.Tag, mine)
	wantNoClaim(t, err, "Replace")
	if existing, err = other.Stat(ctx, "existing"); err != nil {
		t.Fatal(err)
	}
	wantNoClaim(t, b.DeleteIf(ctx, "existing", existing.Tag), "DeleteIf")
}

// testCorruptedOnTheWay changes a byte between the driver and the service.
func testCorruptedOnTheWay(t *testing.T, cfg Config) {
	ctx := t.Context()
	cfg, server := bySAS(t, cfg)
	cfg.Transport = wire(func(req *http.Request) (*http.Response, error) {
		if req.Method == http.MethodPut && !strings.Contains(req.URL.Path, drivers.PartsPrefix) {
			data, err := io.ReadAll(req.Body)
			if err != nil {
				return nil, err
			}
			data[len(data)/2] ^= 1
			req.Body = io.NopCloser(bytes.NewReader(data))
		}
		return server.RoundTrip(req)
	})
	b := open(t, cfg)
	body := drivers.NewBody([]byte("what is sent"))
	_, err := b.Create(ctx, "k", body)
	wantNoClaim(t, err, "Create")
	if _, err := b.Stat(ctx, "k"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Stat = %v, want %v", err, drivers.ErrNotFound)
	}
	u, _ := b.StartUpload(ctx, "data/u")
	_, err = b.PutPart(ctx, u, 1, body)
	wantNoClaim(t, err, "PutPart")
}

// TestBodyAfterReturn has the service respond before it has read the body. The
// body's memory may be reused as soon as the call has returned.
func TestBodyAfterReturn(t *testing.T) {
	memory := bytes.Repeat([]byte("a"), 100_000)
	want := bytes.Clone(memory)
	var stale []io.Reader
	tries := 0
	b := fake(t, func(req *http.Request) (*http.Response, error) {
		tries++
		if tries == 1 {
			stale = append(stale, req.Body)
			if _, err := io.ReadFull(req.Body, make([]byte, 10)); err != nil {
				t.Error(err)
			}
			return nil, io.ErrUnexpectedEOF
		}
		var wg sync.WaitGroup
		wg.Go(func() { // the connection of the first try continues to read
			if _, err := io.ReadFull(stale[0], make([]byte, 1000)); err != nil {
				t.Error(err)
			}
		})
		got, err := io.ReadAll(req.Body)
		wg.Wait()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("body of the second try = %d bytes, %v, want all %d", len(got), err, len(want))
		}
		return answer(req, http.StatusCreated, "", nil), nil
	})
	if _, err := b.Create(t.Context(), "k", drivers.NewBody(memory)); err != nil {
		t.Fatal(err)
	}
	clear(memory)
	if n, err := stale[0].Read(make([]byte, 10)); n > 0 || err == nil {
		t.Errorf("read of the body after the call = %d bytes, %v, want an error", n, err)
	}
}

// TestHeaders checks the headers for tier and scope, and the number of requests
// of each call.
func TestHeaders(t *testing.T) {
	ctx := t.Context()
	var seen []*http.Request
	cfg := fakeConfig(func(req *http.Request) (*http.Response, error) {
		seen = append(seen, req)
		return answer(req, http.StatusCreated, "", http.Header{"Etag": {`"0x1"`}}), nil
	})
	cfg.AccessTier, cfg.EncryptionScope = "Cool", "scope"
	b, err := newBucket(cfg)
	if err != nil {
		t.Fatal(err)
	}
	body := drivers.NewBody([]byte("x"))
	u, _ := b.StartUpload(ctx, "data/u")
	var parts []drivers.Part
	for _, test := range []struct {
		name string
		call func() error
		tier string // "" for none
		comp string
		cond string // If-None-Match, or If-Match
	}{
		{"Create of data", func() error { _, err := b.Create(ctx, "data/k", body); return err }, "Cool", "", "*"},
		{"Create", func() error { _, err := b.Create(ctx, "k", body); return err }, "", "", "*"},
		{"Create by the probe", func() error { _, err := b.store.create(ctx, probePrefix+"k", body); return err }, "Cool", "", "*"},
		{"Replace", func() error { _, err := b.Replace(ctx, "k", `"0x1"`, body); return err }, "", "", `"0x1"`},
		{"PutPart", func() error {
			p, err := b.PutPart(ctx, u, 1, body)
			parts = append(parts, p)
			return err
		}, "", "block", ""},
		{"Complete", func() error { _, err := b.Complete(ctx, u, parts, body.CRC32C); return err }, "Cool", "blocklist", "*"},
	} {
		seen = nil
		if err := test.call(); err != nil {
			t.Errorf("%s = %v", test.name, err)
		}
		if len(seen) != 1 {
			t.Errorf("%s sends %d requests, want 1", test.name, len(seen))
			continue
		}
		h := make(http.Header) // the SDK's names are not canonical
		for name, values := range seen[0].Header {
			h[http.CanonicalHeaderKey(name)] = values
		}
		cond := h.Get("If-None-Match") + h.Get("If-Match")
		if got := h.Get("X-Ms-Access-Tier"); got != test.tier {
			t.Errorf("tier of %s = %q, want %q", test.name, got, test.tier)
		}
		if got := h.Get("X-Ms-Encryption-Scope"); got != "scope" {
			t.Errorf("encryption scope of %s = %q, want %q", test.name, got, "scope")
		}
		if got := seen[0].URL.Query().Get("comp"); got != test.comp || cond != test.cond {
			t.Errorf("comp and condition of %s = %q and %q, want %q and %q", test.name, got, cond, test.comp, test.cond)
		}
		if sum := h.Get("X-Ms-Content-Crc64"); (sum == "") != (test.comp == "blocklist") {
			t.Errorf("checksum of %s = %q, want one: %t", test.name, sum, test.comp != "blocklist")
		}
	}

	seen = nil
	if _, err := b.StartUpload(ctx, "data/v"); err != nil {
		t.Error(err)
	}
	if err := b.Abort(ctx, u); err != nil {
		t.Error(err)
	}
	for u, err := range b.Uploads(ctx, "") {
		t.Errorf("Uploads returns %+v, %v", u, err)
	}
	if len(seen) > 0 {
		t.Errorf("StartUpload, Abort and Uploads send %d requests, want none", len(seen))
	}
}

// fakeConfig returns a configuration for a double of the service.
func fakeConfig(service wire) Config {
	return Config{Account: "account", Container: "container", SAS: "sv=1&sig=SIGNATURE", Transport: service}
}

// fake returns a bucket of a double of the service. It was not probed.
func fake(t *testing.T, service wire) *bucket {
	t.Helper()
	b, err := newBucket(fakeConfig(service))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// answer returns a response of the service, with the code unless it is empty.
func answer(req *http.Request, status int, code string, header http.Header) *http.Response {
	if header == nil {
		header = make(http.Header)
	}
	if code != "" {
		header.Set("X-Ms-Error-Code", code)
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: http.NoBody, Request: req,
	}
}
