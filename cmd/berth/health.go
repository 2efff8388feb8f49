package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/cmd/berth/config"
)

func healthCommand() *cobra.Command {
	var ready bool
	cmd := configured(&cobra.Command{
		Use:   "health",
		Short: "Check that berth serves on this host",
		Long: "Request /healthz from the berth that serves on this host with the same configuration. The exit code is 0 if the answer is\n" +
			"200 within 5 seconds. Images have no shell and no curl, so this is the health check of a container.",
	}, func(ctx context.Context, cfg *config.Config) error {
		path := "/healthz"
		if ready {
			path = "/readyz"
		}
		return checkHealth(ctx, "http://"+localAddress(cfg.Address)+path)
	})
	cmd.Flags().BoolVar(&ready, "ready", false, "request /readyz, which also depends on the store")
	return cmd
}

// localAddress returns the address at which a client on this host reaches a server
// that listens on address. One that listens on all interfaces is reached by loopback.
func localAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address // config has checked it
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "", err == nil && ip.IsUnspecified() && ip.Is4():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// healthTimeout limits how long the answer may take.
const healthTimeout = 5 * time.Second

// checkHealth returns an error unless the answer of the URL is 200. It ignores
// proxies in the environment, because the server is on this host.
func checkHealth(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, resp.Status, strings.TrimSpace(string(text)))
	}
	return nil
}
