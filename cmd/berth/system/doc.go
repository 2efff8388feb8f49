// Package system tests the berth binary from outside: its commands, its answers to
// real clients, its requests to servers that stand in for the clouds, and what is
// left after faults and kills. It has tests only.
package system
