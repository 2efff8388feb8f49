package ocihttp

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/access"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/redirect"
)

var update = flag.Bool("update", false, "write the responses to testdata instead of comparing them")

// TestGolden sends the requests of each file in testdata and compares the
// responses. A file is read line by line:
//
//	# text               a comment
//	server NAME          send the next requests to this server; all servers have the same bucket
//	fail METHOD ERROR    make these calls of the bucket fail during the next request
//	> text               a line of a request; an empty line precedes the body
//	< text               a line of its response, likewise
//	save NAME            save the Location of the response as {NAME}
//	text NAME TEXT       define {text NAME}, which has one line
//
// The lines of a body are joined by line feeds. Host is added to each request,
// and so is Content-Length if it is missing. In a request, {sha256 TEXT} is a
// digest, {sha256of NAME} is the digest of a text that was defined, {times N TEXT} is a
// text repeated N times, {path NAME}, {state NAME} and
// {id NAME} are parts of a saved Location, and {forge NAME} is a saved Location
// with one character of its state changed. In a response, headers are sorted, and
// values that differ between runs are replaced by names in angle brackets.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files in testdata = %v, %v, want some", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newScript(t).run(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s differs (-want +got; update it with -update):\n%s", file, diff)
			}
		})
	}
}

// secret is part of the errors of a store, and must not be in a response.
const secret = "sdk: GET https://prod-bucket.internal/blobs/sha256/ab/record: AKIAEXAMPLE"

// failures are the errors that calls of a store can return.
var failures = map[string]error{
	"busy":        fmt.Errorf("%s: %w", secret, drivers.ErrBusy),
	"full":        fmt.Errorf("%s: %w", secret, drivers.ErrFull),
	"not-found":   fmt.Errorf("%s: %w", secret, drivers.ErrNotFound),
	"exists":      fmt.Errorf("%s: %w", secret, drivers.ErrExists),
	"changed":     fmt.Errorf("%s: %w", secret, drivers.ErrChanged),
	"range":       fmt.Errorf("%s: %w", secret, drivers.ErrRange),
	"unsupported": fmt.Errorf("%s: %w", secret, errors.ErrUnsupported),
	"denied":      errors.New(secret),
	"timeout":     fmt.Errorf("%s: %w", secret, context.DeadlineExceeded),
	"canceled":    fmt.Errorf("%s: %w", secret, context.Canceled),
}

// leak matches text that must not be in a response: keys in the bucket, and parts
// of the errors of a store.
var leak = regexp.MustCompile(`blobs/sha256/|aliases/|repos/|catalog/|manifests/sha(?:256|512)/|referrers/sha(?:256|512)-|data/|uploads/[0-9a-f-]+/\d|meta/|parts/|sdk:|AKIAEXAMPLE|prod-bucket|drivertest|envelope|memory:|blobstore:|catalog:|upload:`)

func checkLeaks(t *testing.T, request string, resp fullResponse) {
	t.Helper()
	text := resp.body
	for name, values := range resp.Header {
		if name != "Location" || resp.StatusCode != http.StatusTemporaryRedirect {
			text += "\n" + strings.Join(values, "\n")
		}
	}
	if found := leak.FindString(text); found != "" {
		t.Errorf("%s: the response contains %q:\n%v\n%s", request, found, resp.Header, resp.body)
	}
}

// script runs the requests of one file.
type script struct {
	servers map[string]string // addresses
	faulty  *atomic.Pointer[drivertest.Faulty]

	conns  map[string]*wire
	server string
	saved  map[string]string
	texts  map[string]string
	last   fullResponse
}

func newScript(t *testing.T) *script {
	store := &memory.Store{}
	s := &script{
		faulty: new(atomic.Pointer[drivertest.Faulty]),
		conns:  map[string]*wire{},
		server: "default",
		saved:  map[string]string{},
		texts:  map[string]string{},
	}
	intercept := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if f := s.faulty.Load(); f != nil {
			return f.Intercept(ctx, c, do)
		}
		return do(ctx)
	}
	open := func(bucket drivers.Bucket, storeConfig blobstore.Config, cfg Config) string {
		storeConfig.InlineMax = 16
		// Without a cache every request reads the store, which can fail.
		storeConfig.Cache.Entries = -1
		return serve(t, newHandler(t, drivertest.Wrap(bucket, intercept), storeConfig, cfg))
	}
	bucket := openMemory(t, store)
	s.servers = map[string]string{
		"default":   open(bucket, blobstore.Config{}, Config{}),
		"readonly":  open(bucket, blobstore.Config{}, Config{DisableDelete: true}),
		"public":    open(bucket, blobstore.Config{}, Config{PublicURL: "https://registry.example/berth/"}),
		"small":     open(bucket, blobstore.Config{Upload: blobstore.UploadConfig{MaxBlobSize: 20}}, Config{}),
		"expired":   open(bucket, blobstore.Config{Upload: blobstore.UploadConfig{SessionLifetime: time.Nanosecond}}, Config{}),
		"signing":   open(drivertest.Signing(bucket), blobstore.Config{}, Config{}),
		"edge":      open(bucket, blobstore.Config{Redirect: edgePolicy(t)}, Config{}),
		"chunky":    open(openMemory(t, &memory.Store{Habits: memory.S3()}), blobstore.Config{}, Config{}),
		"library":   open(bucket, blobstore.Config{}, Config{Authorizer: pullsLibrary{}}),
		"tiny":      open(bucket, blobstore.Config{Manifests: blobstore.ManifestConfig{MaxSize: 300}}, Config{}),
		"sparse":    open(bucket, blobstore.Config{Manifests: blobstore.ManifestConfig{SparseIndexes: true}}, Config{}),
		"immutable": open(bucket, blobstore.Config{Manifests: blobstore.ManifestConfig{ImmutableTags: releases}}, Config{}),
		"panics":    open(bucket, blobstore.Config{Access: panics{}}, Config{}),
	}
	return s
}

// releases are rules that protect the tags of releases.
var releases = []blobstore.ImmutableTags{{Repository: "library/**", Tags: []string{"v*"}}}

// edgePolicy returns a policy that redirects every read to a CDN that answers all
// kinds of ranges.
func edgePolicy(t *testing.T) *redirect.Policy {
	t.Helper()
	p, err := redirect.New(redirect.Config{Default: "cdn:edge", CDN: map[string]redirect.CDN{
		"edge": {Kind: "plain", BaseURL: "https://edge.example", Ranges: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pullsLibrary is an authorizer that allows everything, except to pull from other
// repositories than those in library/ where that is optional.
type pullsLibrary struct{}

func (pullsLibrary) Authorize(_ context.Context, need access.Need) (bool, error) {
	return slices.Equal(need.Optional.Actions, []access.Action{access.Pull}) && strings.HasPrefix(need.Optional.Repository, "library/"), nil
}

// panics is an access controller that panics.
type panics struct{}

func (panics) BlobAccessController(blobstore.BlobDescriptorService) blobstore.BlobDescriptorService {
	panic(secret)
}

// run returns the file with the actual responses.
func (s *script) run(t *testing.T, file string) string {
	t.Helper()
	var out strings.Builder
	var request []string
	flush := func() {
		if request != nil {
			s.last = s.exchange(t, request)
			out.WriteString(s.describe(s.last))
			request = nil
			s.faulty.Store(nil)
		}
	}
	for line := range strings.Lines(file) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, ">"); ok {
			request = append(request, strings.TrimPrefix(rest, " "))
			out.WriteString(line + "\n")
			continue
		}
		flush()
		if strings.HasPrefix(line, "<") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if name, text, ok := strings.Cut(strings.TrimPrefix(line, "text "), " "); ok && strings.HasPrefix(line, "text ") {
			s.texts[name] = s.expand(t, text)
			continue
		}
		s.command(t, strings.Fields(line))
	}
	flush()
	return out.String()
}

func (s *script) command(t *testing.T, f []string) {
	t.Helper()
	switch {
	case len(f) == 2 && f[0] == "server" && s.servers[f[1]] != "":
		s.server = f[1]
	case len(f) == 3 && f[0] == "fail" && failures[f[2]] != nil:
		s.faulty.Store(&drivertest.Faulty{Match: func(c drivertest.Call) bool { return c.Method == f[1] }, Err: failures[f[2]]})
	case len(f) == 2 && f[0] == "save" && s.last.Header.Get("Location") != "":
		s.saved[f[1]] = s.last.Header.Get("Location")
	default:
		t.Fatalf("unknown command %q", f)
	}
}

func (s *script) exchange(t *testing.T, lines []string) fullResponse {
	t.Helper()
	for i := range lines {
		lines[i] = s.expand(t, lines[i])
	}
	head, body, hasBody := lines, "", false
	if i := slices.Index(lines, ""); i >= 0 {
		head, body, hasBody = lines[:i], strings.Join(lines[i+1:], "\n"), true
	}
	method, _, _ := strings.Cut(head[0], " ")
	has := func(name string) bool {
		return slices.ContainsFunc(head[1:], func(h string) bool { return strings.HasPrefix(h, name+":") })
	}
	text := head[0] + " HTTP/1.1\r\nHost: registry.test\r\n"
	for _, h := range head[1:] {
		text += h + "\r\n"
	}
	switch {
	case has("Transfer-Encoding"):
		body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	case !has("Content-Length") && (hasBody || method != http.MethodGet && method != http.MethodHead):
		text += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	w := s.conns[s.server]
	if w == nil {
		w = dial(t, s.servers[s.server])
		s.conns[s.server] = w
	}
	w.send(t, "%s\r\n%s", text, body)
	resp := w.readResponse(t, method)
	if resp.Close {
		w.Close()
		delete(s.conns, s.server)
	}
	checkLeaks(t, head[0], resp)
	return resp
}

var variable = regexp.MustCompile(`\{([a-z0-9]+)(?: ([^{}]*))?\}`)

func (s *script) expand(t *testing.T, line string) string {
	t.Helper()
	return variable.ReplaceAllStringFunc(line, func(v string) string {
		m := variable.FindStringSubmatch(v)
		if m[2] == "" {
			return s.location(t, m[1]).RequestURI()
		}
		switch m[1] {
		case "sha256", "sha512":
			return digest.Algorithm(m[1]).FromString(m[2]).String()
		case "text":
			return s.text(t, m[2])
		case "sha256of", "sha512of":
			return digest.Algorithm(strings.TrimSuffix(m[1], "of")).FromString(s.text(t, m[2])).String()
		case "times":
			n, text, _ := strings.Cut(m[2], " ")
			times, err := strconv.Atoi(n)
			if err != nil {
				t.Fatalf("%s: %v", v, err)
			}
			return strings.Repeat(text, times)
		case "path":
			return s.location(t, m[2]).Path
		case "id":
			return filepath.Base(s.location(t, m[2]).Path)
		case "state":
			return s.location(t, m[2]).Query().Get("_state")
		case "forge":
			state := []byte(s.location(t, m[2]).Query().Get("_state"))
			state[60] ^= 1 // in the part that is signed; the result is still valid base64
			return s.location(t, m[2]).Path + "?_state=" + url.QueryEscape(string(state))
		}
		t.Fatalf("unknown variable %s", v)
		return ""
	})
}

func (s *script) text(t *testing.T, name string) string {
	t.Helper()
	text, ok := s.texts[name]
	if !ok {
		t.Fatalf("no text was defined as %q", name)
	}
	return text
}

func (s *script) location(t *testing.T, name string) *url.URL {
	t.Helper()
	u, err := url.Parse(s.saved[name])
	if err != nil || u.Path == "" {
		t.Fatalf("no Location was saved as %q", name)
	}
	return u
}

// volatile are values that differ between runs.
var volatile = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`_state=[\w-]+`), "_state=<state>"},
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "<uuid>"},
	{regexp.MustCompile(`data/new/[0-9a-f]{2}/[0-9a-f]{32}\b`), "data/new/<xx>/<id>"},
	{regexp.MustCompile(`/[0-9a-f]{32}\b`), "/<id>"},
	{regexp.MustCompile(`expires=\d+`), "expires=<unix>"},
}

// describe returns a response as lines of a file.
func (s *script) describe(r fullResponse) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n", r.Status)
	replace := map[string]string{}
	if id := r.Header.Get(RequestID); id != "" {
		replace[id] = "<request-id>"
	}
	if date := r.Header.Get("Date"); date != "" {
		replace[date] = "<date>"
	}
	if _, boundary, ok := strings.Cut(r.Header.Get("Content-Type"), "boundary="); ok {
		replace[boundary] = "<boundary>"
	}
	if r.StatusCode == http.StatusTemporaryRedirect {
		replace[strings.TrimPrefix(r.Header.Get("Cache-Control"), "private, ")] = "max-age=<seconds>"
	}
	lines := []string{}
	for name, values := range r.Header {
		for _, v := range values {
			lines = append(lines, strings.TrimSpace(name+": "+v))
		}
	}
	if r.Close {
		lines = append(lines, "Connection: close")
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, "\n") + "\n")
	if r.body != "" {
		b.WriteString("\n" + strings.ReplaceAll(r.body, "\r\n", "\n"))
	}
	text := strings.TrimSuffix(b.String(), "\n")
	for old, replacement := range replace {
		text = strings.ReplaceAll(text, old, replacement)
	}
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.name)
	}
	out := ""
	for line := range strings.SplitSeq(text, "\n") {
		out += strings.TrimSuffix("< "+line, " ") + "\n"
	}
	return out
}
