package azure

import (
	"net/http"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// testPages counts the keys in the pages of listings.
func testPages(t *testing.T, cfg Config) {
	drivertest.TestPages(t, "<Name>", cfg.Transport, func(through http.RoundTripper) drivers.Bucket {
		cfg.Transport = through
		return open(t, cfg)
	})
}
