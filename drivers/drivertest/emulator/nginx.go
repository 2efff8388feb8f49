package emulator

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// Nginx is nginx in the place of a CDN, with a certificate of its own.
type Nginx struct {
	URL       string // https://127.0.0.1:port
	CertFile  string // that clients must trust
	Transport *http.Transport
}

// StartNginx starts nginx with what makeConfig gives for its http block: a
// server that listens at addr, with the certificate and key of these files, and
// keeps what it keeps in dir. It must answer 404 to GET /.
func StartNginx(t testing.TB, makeConfig func(dir, addr, cert, key string) string) *Nginx {
	t.Helper()
	n := new(Nginx)
	var roots *x509.CertPool
	_, addr := start(t, func(dir, addr string) command {
		roots = x509.NewCertPool()
		cert, key := makeCertificate(t, dir, roots, "localhost")
		// One process, so that none is left when it is killed.
		config := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log stderr; events {}\n"+
			"http { access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; "+
			"uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;\n%[2]s\n}\n", dir, makeConfig(dir, addr, cert, key))
		file := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		n.CertFile = cert
		return command{
			name: "nginx", args: []string{"-p", dir, "-c", file, "-e", "stderr"},
			ready: "https://" + addr, status: http.StatusNotFound, roots: roots,
		}
	})
	n.URL = "https://" + addr
	n.Transport = &http.Transport{MaxIdleConnsPerHost: 100, TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(n.Transport.CloseIdleConnections)
	return n
}
