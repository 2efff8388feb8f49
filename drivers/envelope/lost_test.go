package envelope_test

import (
	"context"
	"errors"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

// habits are those of a store with tags derived from the content, and of a
// store that numbers each write.
var habits = map[string]func() memory.Habits{"S3": memory.S3, "GCS": memory.GCS}

func onlyMethod(name string) func(drivertest.Call) bool {
	return func(c drivertest.Call) bool { return c.Method == name }
}

// TestCreateIsLost checks that a Create without a response succeeds if the body
// is stored, and otherwise returns the store's error.
func TestCreateIsLost(t *testing.T) {
	for name, h := range habits {
		for _, tt := range []struct {
			mode  drivertest.Mode
			other bool // another writer's body is stored
			want  error
		}{
			{drivertest.Lost, false, drivertest.ErrInjected},
			{drivertest.Late, false, drivertest.ErrInjected},
			{drivertest.Unanswered, false, nil},
			{drivertest.Lost, true, drivers.ErrExists},
			{drivertest.Late, true, drivers.ErrExists},
			{drivertest.Unanswered, true, drivers.ErrExists},
		} {
			store := &memory.Store{Habits: h()}
			direct := bucket(t, store, nil)
			if tt.other {
				if _, err := envelope.Create(t.Context(), direct, key, note{Text: "other"}, drivers.Body{}); err != nil {
					t.Fatal(err)
				}
			}
			faulty := &drivertest.Faulty{Mode: tt.mode, Match: onlyMethod("Create")}
			made, err := envelope.Create(t.Context(), bucket(t, store, faulty.Intercept), key, note{Text: "mine"}, drivers.NewBody([]byte("raw")))
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: Create, %v, another there: %v = %v, want %v", name, tt.mode, tt.other, err, tt.want)
			}
			if err := faulty.Land(t.Context()); err != nil && !errors.Is(err, drivers.ErrExists) {
				t.Fatal(err)
			}
			there, err := envelope.Read[note](t.Context(), direct, key)
			switch {
			case tt.other:
				if err != nil || there.Value.Text != "other" {
					t.Errorf("%s: after Create, %v, the other writer's body is %+v, %v", name, tt.mode, there, err)
				}
			case tt.mode == drivertest.Lost:
				if !errors.Is(err, drivers.ErrNotFound) {
					t.Errorf("%s: after Create, %v, there is %+v, %v", name, tt.mode, there, err)
				}
			case err != nil || there.Value.Text != "mine" || string(there.Raw) != "raw":
				t.Errorf("%s: after Create, %v, there is %+v, %v", name, tt.mode, there, err)
			}
			if tt.mode == drivertest.Unanswered && !tt.other && made.Object.Tag != there.Object.Tag {
				t.Errorf("%s: Create, %v, returns tag %q, want %q", name, tt.mode, made.Object.Tag, there.Object.Tag)
			}
		}
	}
}

// TestCreateRetriedBelow lets the driver's own retry find the object that its
// first attempt stored, which it reports as a conflict.
func TestCreateRetriedBelow(t *testing.T) {
	store := &memory.Store{Habits: memory.S3()}
	retries := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method == "Create" {
			if err := do(ctx); err != nil {
				return err
			}
		}
		return do(ctx)
	}
	made, err := envelope.Create(t.Context(), bucket(t, store, retries), key, note{Text: "mine"}, drivers.Body{})
	if err != nil {
		t.Fatalf("Create with a retry that met itself = %v, want success", err)
	}
	if there := read(t, bucket(t, store, nil)); made.Value.Text != "mine" || made.Object.Tag != there.Object.Tag {
		t.Errorf("Create = %+v, there is %+v", made, there)
	}
}

// TestDraft checks that creating a draft reads nothing of a taken key, and that
// Existing reports a body of the draft's own as a success.
func TestDraft(t *testing.T) {
	counter := new(drivertest.Counter)
	b := bucket(t, &memory.Store{Habits: memory.S3()}, counter.Intercept)
	first, second := draft(t, "first"), draft(t, "second")
	for i, tt := range []struct {
		draft envelope.Draft[note]
		want  error
	}{{first, nil}, {first, drivers.ErrExists}, {second, drivers.ErrExists}} {
		got, err := tt.draft.Create(t.Context(), b, key)
		if !errors.Is(err, tt.want) || tt.want != nil && got.Object.Key != "" {
			t.Errorf("Create %d = %+v, %v, want %v", i, got, err, tt.want)
		}
		if n := counter.Total(); n != i+1 {
			t.Errorf("%d requests after Create %d, want %d", n, i, i+1)
		}
	}
	if got, err := first.Existing(t.Context(), b, key); err != nil || got.Value.Text != "first" {
		t.Errorf("Existing of the stored draft = %+v, %v, want it", got, err)
	}
	if got, err := second.Existing(t.Context(), b, key); !errors.Is(err, drivers.ErrExists) || got.Value.Text != "first" {
		t.Errorf("Existing of the other draft = %+v, %v, want the stored one and %v", got, err, drivers.ErrExists)
	}
	if err := b.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if got, err := second.Existing(t.Context(), b, key); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Existing of an absent key = %+v, %v, want %v", got, err, drivers.ErrNotFound)
	}
}

func draft(t *testing.T, text string) envelope.Draft[note] {
	t.Helper()
	d, err := envelope.NewDraft(note{Text: text}, drivers.Body{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestCreateMeetsWhatVanishes deletes the conflicting body before it can be
// read. The key is then free, and Create has to try again.
func TestCreateMeetsWhatVanishes(t *testing.T) {
	store := &memory.Store{Habits: memory.S3()}
	direct := bucket(t, store, nil)
	creates := 0
	vanishes := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method != "Create" {
			return do(ctx)
		}
		if creates++; creates <= 3 {
			if _, err := envelope.Create(ctx, direct, key, note{Text: "other"}, drivers.Body{}); err != nil {
				t.Error(err)
			}
			defer func() {
				if err := direct.Delete(ctx, key); err != nil {
					t.Error(err)
				}
			}()
		}
		return do(ctx)
	}
	if _, err := envelope.Create(t.Context(), bucket(t, store, vanishes), key, note{Text: "mine"}, drivers.Body{}); err != nil {
		t.Fatalf("Create = %v, want success", err)
	}
	if there := read(t, direct); there.Value.Text != "mine" || creates != 4 {
		t.Errorf("after %d creates there is %q, want 4 and \"mine\"", creates, there.Value.Text)
	}
}

// TestCreateCannotReadBack checks that the outcome is unknown if both the
// response and the read fail, and that the error makes no claim about the key.
func TestCreateCannotReadBack(t *testing.T) {
	store := &memory.Store{Habits: memory.S3()}
	faulty := &drivertest.Faulty{Mode: drivertest.Unanswered}
	dead := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method == "Open" {
			return drivers.ErrBusy
		}
		return faulty.Intercept(ctx, c, do)
	}
	_, err := envelope.Create(t.Context(), bucket(t, store, dead), key, note{}, drivers.Body{})
	if !errors.Is(err, drivertest.ErrInjected) {
		t.Errorf("Create without answers = %v, want %v", err, drivertest.ErrInjected)
	}
	_, err = envelope.Create(t.Context(), bucket(t, store, dead), key, note{}, drivers.Body{})
	if !errors.Is(err, drivers.ErrBusy) || errors.Is(err, drivers.ErrExists) {
		t.Errorf("Create that can't read the existing body = %v, want %v", err, drivers.ErrBusy)
	}
}

// TestReplaceIsLost is TestCreateIsLost for Replace.
func TestReplaceIsLost(t *testing.T) {
	for name, h := range habits {
		for _, tt := range []struct {
			mode   drivertest.Mode
			before string // state of the key before Replace: nothing (unchanged), replaced, deleted
			want   error
		}{
			{drivertest.Lost, "nothing", drivertest.ErrInjected},
			{drivertest.Late, "nothing", drivertest.ErrInjected},
			{drivertest.Unanswered, "nothing", nil},
			{drivertest.Lost, "replaced", drivers.ErrChanged},
			{drivertest.Late, "replaced", drivers.ErrChanged},
			{drivertest.Unanswered, "replaced", drivers.ErrChanged},
			{drivertest.Lost, "deleted", drivers.ErrChanged},
			{drivertest.Late, "deleted", drivers.ErrChanged},
			{drivertest.Unanswered, "deleted", drivers.ErrChanged},
		} {
			store := &memory.Store{Habits: h()}
			direct := bucket(t, store, nil)
			old, err := envelope.Create(t.Context(), direct, key, note{Text: "old"}, drivers.Body{})
			if err != nil {
				t.Fatal(err)
			}
			switch tt.before {
			case "replaced":
				_, err = envelope.Replace(t.Context(), direct, key, old.Object.Tag, note{Text: "other"}, drivers.Body{})
			case "deleted":
				err = direct.Delete(t.Context(), key)
			}
			if err != nil {
				t.Fatal(err)
			}
			faulty := &drivertest.Faulty{Mode: tt.mode, Match: onlyMethod("Replace")}
			made, err := envelope.Replace(t.Context(), bucket(t, store, faulty.Intercept), key, old.Object.Tag, note{Text: "mine"}, drivers.Body{})
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: Replace, %v, key %s before = %v, want %v", name, tt.mode, tt.before, err, tt.want)
			}
			if err := faulty.Land(t.Context()); err != nil && !errors.Is(err, drivers.ErrChanged) {
				t.Fatal(err)
			}

			want := map[string]string{"nothing": "mine", "replaced": "other", "deleted": ""}[tt.before]
			if tt.before == "nothing" && tt.mode == drivertest.Lost {
				want = "old"
			}
			there, err := envelope.Read[note](t.Context(), direct, key)
			if err != nil && !errors.Is(err, drivers.ErrNotFound) || there.Value.Text != want {
				t.Errorf("%s: after Replace, %v, key %s before, there is %q, %v, want %q", name, tt.mode, tt.before, there.Value.Text, err, want)
			}
			if tt.want == nil && made.Object.Tag != there.Object.Tag {
				t.Errorf("%s: Replace, %v, returns tag %q, want %q", name, tt.mode, made.Object.Tag, there.Object.Tag)
			}
		}
	}
}

// TestReplaceRetriedBelow lets the driver's own retry find that its first
// attempt already replaced the tag.
func TestReplaceRetriedBelow(t *testing.T) {
	store := &memory.Store{Habits: memory.S3()}
	direct := bucket(t, store, nil)
	old, err := envelope.Create(t.Context(), direct, key, note{Text: "old"}, drivers.Body{})
	if err != nil {
		t.Fatal(err)
	}
	retries := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method == "Replace" {
			if err := do(ctx); err != nil {
				return err
			}
		}
		return do(ctx)
	}
	if _, err := envelope.Replace(t.Context(), bucket(t, store, retries), key, old.Object.Tag, note{Text: "mine"}, drivers.Body{}); err != nil {
		t.Errorf("Replace with a retry that met itself = %v, want success", err)
	}
	if there := read(t, direct); there.Value.Text != "mine" {
		t.Errorf("there is %q, want \"mine\"", there.Value.Text)
	}
}
