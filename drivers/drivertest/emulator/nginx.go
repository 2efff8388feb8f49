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

// Nginx is an nginx server that acts as a CDN, with its own certificate.
type Nginx struct {
	URL       string // https://127.0.0.1:port
	CertFile  string // that clients must trust
	Transport *http.Transport
}

// StartNginx starts nginx with the http block that makeConfig returns. The
// block must configure a server that listens at addr with the certificate and
// key in these files, keeps its files in dir, and answers 404 to GET /.
func StartNginx(t testing.TB, makeConfig func(dir, addr, cert, key string) string) *Nginx {
	t.Helper()
	n := new(Nginx)
	var roots *x509.CertPool
	_, addr := start(t, func(dir, addr string) command {
		roots = x509.NewCertPool()
		cert, key := makeCertificate(t, dir, roots, "localhost")
		file := nginxFile(t, dir, makeConfig(dir, addr, cert, key))
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

// nginxFile writes a configuration with this http block and returns its path.
// nginx runs as a single process, so killing it leaves no other process.
func nginxFile(t testing.TB, dir, httpBlock string) string {
	t.Helper()
	config := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log stderr; events {}\n"+
		"http { access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; "+
		"uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;\n%[2]s\n}\n", dir, httpBlock)
	return writeConfig(t, dir, "nginx.conf", config)
}

// writeConfig writes a configuration to dir and returns its path.
func writeConfig(t testing.TB, dir, name, config string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// NginxProxy starts nginx in front of berth, with the http block that
// makeConfig returns. The block must configure a server without TLS that
// listens at addr. NginxProxy returns the address.
func NginxProxy(t testing.TB, makeConfig func(addr string) string) string {
	t.Helper()
	_, addr := start(t, func(dir, addr string) command {
		file := nginxFile(t, dir, makeConfig(addr))
		return command{name: "nginx", args: []string{"-p", dir, "-c", file, "-e", "stderr"}, ready: "http://" + addr + "/v2/"}
	})
	return addr
}

// HAProxy starts HAProxy in front of berth, with the configuration that
// makeConfig returns, which must listen at addr without TLS. It returns the
// address.
func HAProxy(t testing.TB, makeConfig func(addr string) string) string {
	t.Helper()
	_, addr := start(t, func(dir, addr string) command {
		file := writeConfig(t, dir, "haproxy.cfg", makeConfig(addr))
		return command{name: "haproxy", args: []string{"-db", "-f", file}, ready: "http://" + addr + "/v2/"}
	})
	return addr
}
