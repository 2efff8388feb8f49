package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berthhq/berth/redirect"
)

// check returns the problems of a configuration after each value has been checked
// alone. The libraries find most of them in their own fields.
func (c *Config) check() []string {
	err := errors.Join(
		c.Storage.validate(),
		c.checkSessions(),
		c.checkAuth(),
		c.Blobs.Validate(),
		c.GC.validate(),
		validateCORS(c.Server.CORS),
		c.validateRedirect(),
	)
	if err == nil {
		return nil
	}
	return strings.Split(KeysIn(err.Error()), "\n")
}

// validate returns the problems of the driver's configuration. It makes no
// requests.
func (s *Storage) validate() error {
	if s.Data != nil && s.Data.Driver != "" {
		return errors.Join(s.validateDriver(), DataError(s.Data.validateDriver()))
	}
	return s.validateDriver()
}

func (s *Storage) validateDriver() error {
	switch s.Driver {
	case "filesystem":
		return s.Filesystem.Validate()
	case "s3":
		return s.S3.Validate()
	case "gcs":
		return s.GCS.Validate()
	case "azure":
		return s.Azure.Validate()
	}
	return nil
}

// ofData returns the section of the bucket that holds the data of blobs.
func (s *Storage) ofData() *Storage {
	if s.Data != nil && s.Data.Driver != "" {
		return s.Data
	}
	return s
}

// checkSessions returns an error if the store would delete parts of uploads that
// clients can still resume.
func (c *Config) checkSessions() error {
	if life := c.Blobs.Upload.SessionLifetime; c.Storage.ofData().Driver == "azure" && life > 144*time.Hour {
		return fmt.Errorf("upload.session_lifetime: %s: want at most 144h with azure, which deletes the parts of unfinished uploads after a week",
			formatDuration(life))
	}
	return nil
}

func (g *GC) validate() error {
	if g.Schedule != "" {
		return errors.New("gc.schedule: this version of berth does not collect garbage while it serves; leave the key empty, and run `berth gc` from a scheduler")
	}
	return nil
}

func (c *Config) validateRedirect() error {
	_, err := redirect.New(c.Redirect)
	return err
}
