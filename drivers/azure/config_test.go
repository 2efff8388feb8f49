package azure

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestResolve checks which account and credential a configuration describes.
func TestResolve(t *testing.T) {
	type resolved struct {
		Name, Endpoint, Credential, SAS string
		Key, Identity                   bool
	}
	for name, test := range map[string]struct {
		cfg  Config
		want resolved
	}{
		"key": {
			Config{Account: "acc", SharedKey: "a2V5"},
			resolved{Name: "acc", Endpoint: "https://acc.blob.core.windows.net", Credential: "azure.Config.SharedKey", Key: true},
		},
		"SAS": {
			Config{Account: "acc", SAS: "?sv=1&sig=x"},
			resolved{Name: "acc", Endpoint: "https://acc.blob.core.windows.net", Credential: "azure.Config.SAS", SAS: "sv=1&sig=x"},
		},
		"identity": {
			Config{Account: "acc", identity: token{}},
			resolved{Name: "acc", Endpoint: "https://acc.blob.core.windows.net", Credential: "azure.Config.SharedKey", Identity: true},
		},
		"endpoint that names the account": {
			Config{Endpoint: "https://acc.blob.core.usgovcloudapi.net/", SharedKey: "a2V5"},
			resolved{Name: "acc", Endpoint: "https://acc.blob.core.usgovcloudapi.net", Credential: "azure.Config.SharedKey", Key: true},
		},
		"emulator": {
			Config{Endpoint: "http://127.0.0.1:10000/acc/", SharedKey: "a2V5"},
			resolved{Name: "acc", Endpoint: "http://127.0.0.1:10000/acc", Credential: "azure.Config.SharedKey", Key: true},
		},
		"connection string": {
			Config{ConnectionString: "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5;EndpointSuffix=core.chinacloudapi.cn"},
			resolved{Name: "acc", Endpoint: "https://acc.blob.core.chinacloudapi.cn", Credential: "azure.Config.ConnectionString", Key: true},
		},
		"connection string with a SAS": {
			Config{ConnectionString: "BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x%3D;"},
			resolved{Name: "acc", Endpoint: "https://acc.blob.core.windows.net", Credential: "azure.Config.ConnectionString", SAS: "sv=1&sig=x%3D"},
		},
	} {
		a, err := test.cfg.resolve()
		if err != nil {
			t.Errorf("%s: resolve() = %v", name, err)
			continue
		}
		got := resolved{a.name, a.endpoint.String(), a.credential, a.sas, a.key != nil, a.identity != nil}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestSASTime parses each form of time that a SAS may have.
func TestSASTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"2030-05-01T13:14:15Z": time.Date(2030, 5, 1, 13, 14, 15, 0, time.UTC), "2030-05-01T13:14Z": time.Date(2030, 5, 1, 13, 14, 0, 0, time.UTC),
		"2030-05-01": time.Date(2030, 5, 1, 0, 0, 0, 0, time.UTC), "": {}, "soon": {},
	} {
		if got := sasTime(text); !got.Equal(want) {
			t.Errorf("sasTime(%q) = %v, want %v", text, got, want)
		}
	}
}

// TestOpenRefusesConfig opens configurations with an invalid field, which the
// error must name.
func TestOpenRefusesConfig(t *testing.T) {
	good := Config{Account: "acc", Container: "c", SharedKey: "a2V5"}
	for key, change := range map[string]func(*Config){
		"azure.Config.Container: name":        func(c *Config) { c.Container = "" },
		"azure.Config.Account: set it":        func(c *Config) { c.Account = "" },
		"azure.Config.SharedKey: the account": func(c *Config) { c.SharedKey = "no base64!" },
		"azure.Config.SharedKey and":          func(c *Config) { c.SAS = "sig=x" },
		"azure.Config.SAS: want":              func(c *Config) { c.SharedKey, c.SAS = "", "https://acc.blob.core.windows.net/c" },
		"azure.Config.ConnectionString: leave": func(c *Config) {
			c.ConnectionString = "AccountName=acc;AccountKey=a2V5"
		},
		"azure.Config.ConnectionString: want <name>": func(c *Config) {
			c.SharedKey, c.ConnectionString = "", "AccountName"
		},
		"azure.Config.ConnectionString: want AccountKey": func(c *Config) {
			c.SharedKey, c.ConnectionString = "", "AccountName=acc"
		},
		"azure.Config.ConnectionString: it is for": func(c *Config) {
			c.SharedKey, c.ConnectionString = "", "AccountName=other;AccountKey=a2V5"
		},
		"azure.Config.Endpoint: want https with an identity": func(c *Config) {
			c.SharedKey, c.Endpoint, c.identity = "", "http://acc.example.com", token{}
		},
		"azure.Config.Endpoint: want a URL":       func(c *Config) { c.Endpoint = "acc.example.com" },
		"azure.Config.PublicEndpoint: want a URL": func(c *Config) { c.PublicEndpoint = "ftp://acc.example.com" },
		"azure.Config.AccessTier":                 func(c *Config) { c.AccessTier = "Archive" },
		"azure.Config.Prefix: key":                func(c *Config) { c.Prefix = "a//b" },
		"azure.Config.Prefix: 402 bytes":          func(c *Config) { c.Prefix = strings.Repeat("abc/de", 67) },
	} {
		cfg := good
		change(&cfg)
		_, err := Open(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("Open = %v, want %q in it", err, key)
		}
		if err != nil && strings.Contains(err.Error(), "a2V5") {
			t.Errorf("Open = %v, which contains the account key", err)
		}
	}
}
