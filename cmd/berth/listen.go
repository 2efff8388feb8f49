package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/berthhq/berth/cmd/berth/config"
)

// listenAdmin listens on the configured address for the operator. It returns nil if
// there is none.
func listenAdmin(ctx context.Context, cfg config.Admin, log *slog.Logger) (net.Listener, error) {
	address := cfg.Address
	switch address {
	case config.AdminOff:
		return nil, nil //nolint:nilnil // there is no listener
	case config.AdminAuto:
		address = config.AdminAutoAddress
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case err != nil && cfg.Address == config.AdminAuto:
		log.WarnContext(ctx, "no listener for the operator: another process has its address; set admin.listen", "address", address)
		return nil, nil //nolint:nilnil // see above
	case err != nil:
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	log.InfoContext(ctx, "listening for the operator", "address", l.Addr().String())
	return l, nil
}
