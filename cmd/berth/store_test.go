package main

import (
	"reflect"
	"slices"
	"testing"

	"github.com/berthhq/berth/cmd/berth/config"
)

// TestDriverConfigs: no key of a cloud's section is lost on the way to its
// driver, and none takes the place of another.
func TestDriverConfigs(t *testing.T) {
	var storage config.Storage
	storage.Prefix = "prefix"
	converted := []string{"EqualParts", "Headers"} // of another type in the driver; tested below
	for _, section := range []any{&storage.S3, &storage.GCS, &storage.Azure} {
		v := reflect.ValueOf(section).Elem()
		for i := range v.NumField() {
			if slices.Contains(converted, v.Type().Field(i).Name) {
				continue
			}
			switch f := v.Field(i); f.Kind() {
			case reflect.String:
				f.SetString("value of " + v.Type().Field(i).Name)
			case reflect.Int:
				f.SetInt(int64(100 + i))
			case reflect.Bool:
				f.SetBool(true)
			default:
				t.Fatalf("%s.%s is a %s: teach this test what to set it to", v.Type().Name(), v.Type().Field(i).Name, f.Kind())
			}
		}
	}
	for _, c := range []struct{ section, got any }{
		{storage.S3, s3Config(storage)},
		{storage.GCS, gcsConfig(storage)},
		{storage.Azure, azureConfig(storage)},
	} {
		section, got := reflect.ValueOf(c.section), reflect.ValueOf(c.got)
		for i := range section.NumField() {
			name := section.Type().Field(i).Name
			if slices.Contains(converted, name) {
				continue
			}
			f := got.FieldByName(name)
			if !f.IsValid() {
				t.Errorf("%s has no %s", got.Type(), name)
			} else if f.Interface() != section.Field(i).Interface() {
				t.Errorf("%s.%s = %v, want %v", got.Type(), name, f, section.Field(i))
			}
		}
		if p := got.FieldByName("Prefix").String(); p != storage.Prefix {
			t.Errorf("%s.Prefix = %q, want %q", got.Type(), p, storage.Prefix)
		}
	}

	// In the configuration 0 retries are none; to the driver 0 is its default.
	storage.S3.Retries = 0
	if got := s3Config(storage).Retries; got != -1 {
		t.Errorf("0 retries are %d to the driver, want -1", got)
	}

	value := "value"
	storage.S3.Headers = map[string]*string{"X-Name": &value}
	if got := s3Config(storage).Headers; len(got) != 1 || got["X-Name"] != value {
		t.Errorf("Headers = %v, want X-Name: %s", got, value)
	}
	for set, want := range map[string]*bool{"auto": nil, "true": new(true), "false": new(false)} {
		storage.S3.EqualParts = set
		if got := s3Config(storage).EqualParts; !reflect.DeepEqual(got, want) {
			t.Errorf("equal_parts %s is %v to the driver, want %v", set, got, want)
		}
	}
}
