package auth

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

// maxCost is the highest cost of a hash. Each step doubles the time of a login, which is
// about a second for this one.
const maxCost = 14

// users are the users of an htpasswd file.
type users struct {
	hashes map[string][]byte // bcrypt hashes by user
	names  []string
	seed   maphash.Seed

	// decoy is a hash of a random password, for a file without users.
	decoy []byte
}

// parseHTPasswd parses a file that `htpasswd -B` writes
// (https://httpd.apache.org/docs/2.4/misc/password_encryptions.html). Its errors name the
// line, but nothing of its content after the colon.
func parseHTPasswd(data []byte) (*users, error) {
	u := &users{hashes: make(map[string][]byte), seed: maphash.MakeSeed()}
	var problems []error
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if err := u.add(text); err != nil {
			problems = append(problems, fmt.Errorf("line %d: %w", number, err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if len(u.names) > 0 {
		return u, nil
	}
	var err error
	u.decoy, err = bcrypt.GenerateFromPassword([]byte(rand.Text()), bcrypt.DefaultCost)
	return u, err
}

// add adds the user in a line.
func (u *users) add(line string) error {
	name, rest, ok := strings.Cut(line, ":")
	switch {
	case !ok:
		return errors.New("want user:hash")
	case name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("the name of the user is empty or has control characters")
	case u.hashes[name] != nil:
		return fmt.Errorf("the user %q stands in the file twice", name)
	}
	hash, _, _ := strings.Cut(rest, ":") // some tools append comments
	cost, err := bcrypt.Cost([]byte(hash))
	if err != nil || len(hash) != bcryptLength || !strings.HasPrefix(hash, "$2") {
		return fmt.Errorf("the password of %q is not a bcrypt hash: set it with htpasswd -B", name)
	}
	if cost > maxCost {
		return fmt.Errorf("the password of %q has a cost of %d: want at most %d, or logins would take too long", name, cost, maxCost)
	}
	u.hashes[name] = []byte(hash)
	u.names = append(u.names, name)
	return nil
}

// bcryptLength is the length of every bcrypt hash.
const bcryptLength = 60

// hash returns the hash of a user's password. For an unknown user it returns false and
// the hash of one of the users, always the same, so that the time that it takes to
// compare a password does not reveal which users there are.
func (u *users) hash(name string) (hash []byte, known bool) {
	if hash, ok := u.hashes[name]; ok {
		return hash, true
	}
	if len(u.names) == 0 {
		return u.decoy, false
	}
	i := maphash.String(u.seed, name) % uint64(len(u.names))
	return u.hashes[u.names[i]], false
}
