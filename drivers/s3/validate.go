package s3

// Validate returns an error that names the first invalid field. It makes no
// requests.
func (c *Config) Validate() error { return c.check() }
