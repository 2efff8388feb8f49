// Package presign has what signers of URLs share: the store's clock, by which a
// URL expires, and the form of a host that clients send and signatures cover.
package presign
