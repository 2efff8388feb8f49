package blobstore

import (
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers/memory"
)

// Open refuses a wrong value, and its error starts with the name of the field.
func TestOpenWithWrongConfig(t *testing.T) {
	for field, cfg := range map[string]Config{
		"blobstore.Config.InlineMax: -1 bytes, want 0 to 65536": {InlineMax: -1},
		"blobstore.Config.InlineMax: 65537 bytes":               {InlineMax: 64<<10 + 1},
		"blobstore.Config.RequestLimit: -1s":                    {RequestLimit: -time.Second},
		"blobstore.Config.Grace: 11h0m0s, want at least twice":  {Grace: 11 * time.Hour},
		"upload.Config.Memory: 1 bytes":                         {Upload: UploadConfig{Memory: 1}},
	} {
		b, err := memory.Open(t.Context(), memory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), b, cfg); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("Open = %v, want an error that starts with %q", err, field)
		}
		for o, err := range b.List(t.Context(), "", "") {
			t.Errorf("a refused Open has stored %s, %v", o.Key, err)
		}
	}
}
