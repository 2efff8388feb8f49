//go:build !linux

package filesystem

// largeFile is zero because file offsets have 64 bits on these platforms.
const largeFile = 0
