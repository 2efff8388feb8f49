package system

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

const (
	kB = 1000
	mB = 1000 * kB

	miB = 1 << 20
	giB = 1 << 30
)

// measuredStores returns the columns of the table.
func measuredStores() []measuredStore {
	onS3 := func(start func(testing.TB) *emulator.S3) func(t *testing.T) (env []string, endpoint string) {
		return func(t *testing.T) ([]string, string) {
			s := start(t)
			return s3Env(t, s), s.Endpoint
		}
	}
	return []measuredStore{
		{"S3", "BERTH_STORAGE_S3_ENDPOINT", true, onS3(emulator.VersityGW)},
		{"S3 (MinIO)", "BERTH_STORAGE_S3_ENDPOINT", false, onS3(emulator.MinIO)},
		{"GCS", "BERTH_STORAGE_GCS_ENDPOINT", false, func(t *testing.T) ([]string, string) {
			s := emulator.FakeGCS(t)
			return gcsEnv(t, s), s.Endpoint
		}},
		{"Azure", "BERTH_STORAGE_AZURE_ENDPOINT", false, func(t *testing.T) ([]string, string) {
			s := emulator.Azurite(t)
			return azureEnv(t, s), s.Endpoint
		}},
	}
}

// measuredStore is a store that requests are counted at.
type measuredStore struct {
	name     string
	variable string // holds the endpoint in the environment
	budgeted bool   // the budgets are for this store

	// start starts the server. It returns the environment of a berth on it, and its
	// URL.
	start func(t *testing.T) (env []string, endpoint string)
}

// operation is an operation of a client.
type operation struct {
	name   string
	budget int // requests to the store, at most: those of a trace, and what an operation adds to it
	effort effort
	run    func(c *meter) // requests before a reset are not counted
}

// effort is how long an operation takes.
type effort int

const (
	little effort = iota
	some          // too many bytes for each store in each run of the tests
	much          // even more bytes, or a pause
)

// traced returns the number of requests in a trace of blobstore, which TestBudgets
// there compares with the code. So the table cannot differ from the traces.
func traced(file, section string) int {
	name := filepath.Join("..", "..", "..", "blobstore", "testdata", "trace", file+".txt")
	trace, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	_, rest, _ := strings.Cut(string(trace), "\n== "+section+"\n")
	before, _, _ := strings.Cut(rest, " to the store\n")
	var n int
	if _, err := fmt.Sscan(before[strings.LastIndex(before, "\n")+1:], &n); err != nil {
		panic(fmt.Errorf("%s has no number of requests in %q: %w", name, section, err))
	}
	return n
}

// operations returns the rows of the table.
func operations() []operation {
	return slices.Concat(pushes(), repeatedPushes(), blobOperations(), sha512Operations(), manifestReads())
}

func pushes() []operation {
	return []operation{
		{"POST of an upload", traced("start", "POST"), little, func(c *meter) { c.post() }},
		{"10 KB by POST+PATCH+PUT", traced("push-by-patch", "10 KB"), little, func(c *meter) { c.pushByPatch(newBlob(10 * kB)) }},
		{"10 KB by POST+PUT", traced("push-by-put", "10 KB"), little, func(c *meter) { c.pushByPut(newBlob(10 * kB)) }},
		{"10 KB by POST", traced("push-by-post", "10 KB"), little, func(c *meter) { c.pushByPost(newBlob(10 * kB)) }},
		{"1 MB by POST+PUT", traced("push-by-put", "1 MB"), little, func(c *meter) { c.pushByPut(newBlob(mB)) }},
		{"102.4 MB by POST+PATCH+PUT", traced("push-by-patch", "102.4 MB"), some, func(c *meter) { c.pushByPatch(newBlob(102_400 * kB)) }},
		{"102.4 MB by POST+PUT", traced("push-by-put", "102.4 MB"), some, func(c *meter) { c.pushByPut(newBlob(102_400 * kB)) }},
		{"1 GiB by POST+PATCH+PUT", traced("push-by-patch", "1 GiB"), much, func(c *meter) { c.pushByPatch(newBlob(giB)) }},
		{"1 GiB by POST+PUT", traced("push-by-put", "1 GiB"), much, func(c *meter) { c.pushByPut(newBlob(giB)) }},
		{"1 GiB by PATCHes of 16 MiB", traced("push-in-chunks", "1 GiB by PATCHes of 16 MiB"), much, func(c *meter) { c.pushInChunks(newBlob(giB), 16*miB) }},
		{"102.4 MB by POST+PATCH+PUT, the PATCH taking 40 s", traced("push-by-patch", "102.4 MB") + 1, much, func(c *meter) {
			b := newBlob(102_400 * kB)
			at := c.patch(c.post(), &pausingReader{Reader: b.reader(), pause: 40 * time.Second}, b.size)
			c.put(at, blob{}, b.digest)
		}},
	}
}

func repeatedPushes() []operation {
	return []operation{
		{"10 KB by POST+PUT, known in another repository", traced("push-existing", "10 KB by POST+PUT, dedup hit"), little, func(c *meter) {
			b := newBlob(10 * kB)
			c.elsewhere().pushByPut(b)
			c.reset()
			c.pushByPut(b)
		}},
		{"1 MB by POST+PUT, known in another repository", traced("push-existing", "1 MB by POST+PUT, dedup hit"), little, func(c *meter) {
			b := newBlob(mB)
			c.elsewhere().pushByPut(b)
			c.reset()
			c.pushByPut(b)
		}},
		{"1 MB by POST+PUT, known in this repository", traced("push-existing", "1 MB by POST+PUT, linked already"), little, func(c *meter) {
			b := newBlob(mB)
			c.pushByPut(b)
			c.reset()
			c.pushByPut(b)
		}},
		{"PUT again", traced("repeat-put", "10 KB"), little, func(c *meter) {
			b := newBlob(10 * kB)
			at := c.pushByPatch(b)
			c.reset()
			c.put(at, blob{}, b.digest)
		}},
		{"PUT again, of whole parts", traced("repeat-put", "two full parts"), little, func(c *meter) {
			b := newBlob(5 * miB)
			at := c.pushByPatch(b)
			c.reset()
			c.put(at, blob{}, b.digest)
		}},
		{"status of an upload", traced("status", "after 10 KB"), little, func(c *meter) {
			b := newBlob(10 * kB)
			at := c.patch(c.post(), b.reader(), b.size)
			c.reset()
			c.do(http.StatusNoContent, http.MethodGet, at, nil, 0)
		}},
		{"cancel of an upload of two parts", traced("cancel", "after 102.4 MB"), little, func(c *meter) {
			b := newBlob(6 * miB)
			at := c.patch(c.post(), b.reader(), b.size)
			at = c.patch(at, b.reader(), b.size)
			c.reset()
			c.do(http.StatusNoContent, http.MethodDelete, at, nil, 0)
		}},
	}
}

func blobOperations() []operation {
	return []operation{
		{"mount", traced("mount", "1 MB"), little, func(c *meter) {
			b := newBlob(mB)
			c.elsewhere().pushByPut(b)
			c.reset()
			c.mount(b.digest)
		}},
		{"HEAD, cold", traced("pull", "HEAD of 1 MB, cold"), little, func(c *meter) { c.readAfter(mB, http.MethodHead, http.StatusOK) }},
		{"GET of 10 KB, cold", traced("pull", "GET of 10 KB, cold"), little, func(c *meter) { c.readAfter(10*kB, http.MethodGet, http.StatusOK) }},
		{"GET of 1 MB, cold", traced("pull", "GET of 1 MB, cold"), little, func(c *meter) { c.readAfter(mB, http.MethodGet, http.StatusTemporaryRedirect) }},
		{"HEAD, warm", traced("pull", "HEAD of 1 MB, warm"), little, func(c *meter) { c.readAgain(mB, http.MethodHead, http.StatusOK) }},
		{"GET, warm", traced("pull", "GET of 1 MB, warm"), little, func(c *meter) { c.readAgain(mB, http.MethodGet, http.StatusTemporaryRedirect) }},
		{"GET or HEAD of an unknown blob", traced("pull", "HEAD of an unknown blob"), little, func(c *meter) { c.read(http.StatusNotFound, http.MethodHead, newBlob(mB).digest) }},
		{"DELETE", traced("delete", "1 MB"), little, func(c *meter) { c.readAfter(mB, http.MethodDelete, http.StatusAccepted) }},
	}
}

func sha512Operations() []operation {
	return []operation{
		{"1 MB by POST+PUT, by its sha512", traced("push-by-sha512", "1 MB by POST+PUT"), little, func(c *meter) { c.pushByPut(newBlob(mB).sha512()) }},
		{"20 MB by POST+PATCH+PUT, by its sha512, which the POST does not name", traced("push-by-sha512-unannounced", "20 MB by POST+PATCH+PUT"), some,
			func(c *meter) { c.pushByPatch(newBlob(20 * mB).sha512()) }},
		{"HEAD by sha512, cold", traced("pull", "HEAD of 1 MB by sha512, cold"), little, func(c *meter) {
			b := newBlob(mB).sha512()
			c.atPeer().pushByPut(b)
			c.reset()
			c.read(http.StatusOK, http.MethodHead, b.digest)
		}},
		{"mount by sha512", traced("mount", "1 MB, by sha512"), little, func(c *meter) {
			b := newBlob(mB).sha512()
			c.elsewhere().pushByPut(b)
			c.reset()
			c.mount(b.digest)
		}},
		{"DELETE by sha512", traced("delete", "1 MB, by sha512"), little, func(c *meter) {
			b := newBlob(mB).sha512()
			c.pushByPut(b)
			c.reset()
			c.read(http.StatusAccepted, http.MethodDelete, b.digest)
		}},
	}
}

// TestRequests compares the requests of each operation to each store with the README's
// table, and on S3 with the budgets. With BERTH_TEST_REQUESTS=1 (`make requests`) it
// runs all operations, otherwise those that take little time.
func TestRequests(t *testing.T) {
	t.Parallel()
	all := os.Getenv("BERTH_TEST_REQUESTS") != "" || os.Getenv("BERTH_TEST_SOAK") != ""
	_, readme, _ := cutReadme(t)
	documented, counted := parseRequests(readme), requestTable{}
	for i, s := range measuredStores() {
		t.Run(s.name, func(t *testing.T) {
			shared := newMeter(t, s)
			for _, op := range operations() {
				if !all && (op.effort == much || op.effort == some && i > 0) {
					continue
				}
				cell := requestCell{op.name, s.name}
				t.Run(op.name, func(t *testing.T) {
					counted[cell] = op.count(t, s, shared, documented[cell])
				})
			}
		})
	}
	maps.Copy(documented, counted)
	table := documented.String()
	switch {
	case t.Failed():
	case *update:
		before, _, after := cutReadme(t) // again, because it may have been edited meanwhile
		if err := os.WriteFile(readmeFile, []byte(before+table+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		if diff := cmp.Diff(table, readme); diff != "" {
			t.Errorf("README.md has another table; run BERTH_TEST_REQUESTS=1 go test ./cmd/berth/system -run TestRequests -update (-want +got):\n%s", diff)
		}
	}
}

// count runs the operation, checks its number of requests, and returns the number.
func (op operation) count(t *testing.T, s measuredStore, shared *meter, documented string) string {
	c := shared.forTest(t)
	if op.effort == much {
		c = newMeter(t, s) // so that the objects are deleted with their server
	}
	c.reset()
	op.run(c)
	requests := c.requests()
	if s.budgeted && len(requests) > op.budget {
		t.Errorf("%d requests, want at most %d:\n%s", len(requests), op.budget, strings.Join(requests, "\n"))
	}
	n := strconv.Itoa(len(requests))
	if n != documented && !*update {
		t.Errorf("%s requests, and README.md has %q:\n%s", n, documented, strings.Join(requests, "\n"))
	}
	return n
}

// requestTable is the number of requests of each operation to each store.
type requestTable map[requestCell]string

type requestCell struct{ operation, store string }

// String returns the table in Markdown.
func (r requestTable) String() string {
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	header, rule := []string{"operation", "at most"}, "|---|--:|"
	for _, s := range measuredStores() {
		header = append(header, s.name)
		rule += "--:|"
	}
	line(header)
	b.WriteString(rule + "\n")
	for _, op := range operations() {
		cells := []string{op.name, strconv.Itoa(op.budget)}
		for _, store := range header[2:] {
			cells = append(cells, r[requestCell{op.name, store}])
		}
		line(cells)
	}
	return b.String()
}

// parseRequests parses a table in Markdown.
func parseRequests(table string) requestTable {
	r := requestTable{}
	var header []string
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "| "), " | ")
		if header == nil {
			header = cells
			continue
		}
		for i := 2; i < min(len(cells), len(header)); i++ {
			r[requestCell{cells[0], header[i]}] = cells[i]
		}
	}
	return r
}

var readmeFile = filepath.Join("..", "..", "..", "README.md")

// cutReadme returns the README's table of requests, and the texts around it.
func cutReadme(t *testing.T) (before, table, after string) {
	t.Helper()
	readme, err := os.ReadFile(readmeFile)
	if err != nil {
		t.Fatal(err)
	}
	const first, last = "<!-- requests -->\n", "<!-- end of requests -->\n"
	before, rest, ok := strings.Cut(string(readme), first)
	table, after, ok2 := strings.Cut(rest, last)
	if !ok || !ok2 {
		t.Fatalf("README.md has no %q and %q", first, last)
	}
	return before + first, table, last + after
}
