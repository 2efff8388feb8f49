package envelope_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

// habits are those of a store with tags derived from the content, and of a
// store that numbers each write.
var habits = map[string]func() memory.Habits{"S3": memory.S3, "GCS": memory.GCS}

// onlyMethod matches the calls of one method.
func onlyMethod(name string) func(drivertest.Call) bool {
	return func(c drivertest.Call) bool { return c.Method == name }
}

// TestCreateIsLost checks that a Create without a response succeeds if the body
// is stored, and otherwise returns the store's error.
func TestCreateIsLost(t *testing.T) {
	for name, h := range habits {
		for _, tt := range []createCase{
			{drivertest.Lost, false, drivertest.ErrInjected},
			{drivertest.Late, false, drivertest.ErrInjected},
			{drivertest.Unanswered, false, nil},
			{drivertest.Lost, true, drivers.ErrExists},
			{drivertest.Late, true, drivers.ErrExists},
			{drivertest.Unanswered, true, drivers.ErrExists},
		} {
			t.Run(fmt.Sprintf("%s, %v, another body stored: %v", name, tt.mode, tt.other), func(t *testing.T) { tt.run(t, h()) })
		}
	}
}

// createCase is a Create without a response.
type createCase struct {
	mode  drivertest.Mode
	other bool // another writer's body is stored
	want  error
}

func (tt createCase) run(t *testing.T, h memory.Habits) {
	store := &memory.Store{Habits: h}
	direct := bucket(t, store, nil)
	if tt.other {
		if _, err := envelope.Create(t.Context(), direct, key, note{Text: "other"}, drivers.Body{}); err != nil {
			t.Fatal(err)
		}
	}
	faulty := &drivertest.Faulty{Mode: tt.mode, Match: onlyMethod("Create")}
	made, err := envelope.Create(t.Context(), bucket(t, store, faulty.Intercept), key, note{Text: "mine"}, drivers.NewBody([]byte("raw")))
	if !errors.Is(err, tt.want) {
		t.Errorf("Create = %v, want %v", err, tt.want)
	}
	if err := faulty.Land(t.Context()); err != nil && !errors.Is(err, drivers.ErrExists) {
		t.Fatal(err)
	}
	stored, err := envelope.Read[note](t.Context(), direct, key)
	want := tt.text()
	if errors.Is(err, drivers.ErrNotFound) != (want == "") || stored.Value.Text != want || want == "mine" && string(stored.Raw) != "raw" {
		t.Errorf("Read after Create = %+v, %v, want the text %q", stored, err, want)
	}
	if tt.mode == drivertest.Unanswered && !tt.other && made.Object.Tag != stored.Object.Tag {
		t.Errorf("Create returns tag %q, want %q", made.Object.Tag, stored.Object.Tag)
	}
}

// text returns the text of the body that is stored in the end; empty if there is
// none.
func (tt createCase) text() string {
	switch {
	case tt.other:
		return "other"
	case tt.mode == drivertest.Lost:
		return ""
	default:
		return "mine"
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
	if stored := read(t, bucket(t, store, nil)); made.Value.Text != "mine" || made.Object.Tag != stored.Object.Tag {
		t.Errorf("Create = %+v, want the stored %+v", made, stored)
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
	if stored := read(t, direct); stored.Value.Text != "mine" || creates != 4 {
		t.Errorf("Read after %d creates = %q, want \"mine\" after 4", creates, stored.Value.Text)
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
		for _, tt := range []replaceCase{
			{drivertest.Lost, "unchanged", drivertest.ErrInjected},
			{drivertest.Late, "unchanged", drivertest.ErrInjected},
			{drivertest.Unanswered, "unchanged", nil},
			{drivertest.Lost, "replaced", drivers.ErrChanged},
			{drivertest.Late, "replaced", drivers.ErrChanged},
			{drivertest.Unanswered, "replaced", drivers.ErrChanged},
			{drivertest.Lost, "deleted", drivers.ErrChanged},
			{drivertest.Late, "deleted", drivers.ErrChanged},
			{drivertest.Unanswered, "deleted", drivers.ErrChanged},
		} {
			t.Run(fmt.Sprintf("%s, %v, key %s before", name, tt.mode, tt.before), func(t *testing.T) { tt.run(t, h()) })
		}
	}
}

// replaceCase is a Replace without a response.
type replaceCase struct {
	mode   drivertest.Mode
	before string // state of the key before Replace
	want   error
}

func (tt replaceCase) run(t *testing.T, h memory.Habits) {
	store := &memory.Store{Habits: h}
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
		t.Errorf("Replace = %v, want %v", err, tt.want)
	}
	if err := faulty.Land(t.Context()); err != nil && !errors.Is(err, drivers.ErrChanged) {
		t.Fatal(err)
	}

	want := map[string]string{"unchanged": "mine", "replaced": "other", "deleted": ""}[tt.before]
	if tt.before == "unchanged" && tt.mode == drivertest.Lost {
		want = "old"
	}
	stored, err := envelope.Read[note](t.Context(), direct, key)
	if err != nil && !errors.Is(err, drivers.ErrNotFound) || stored.Value.Text != want {
		t.Errorf("Read after Replace = %q, %v, want %q", stored.Value.Text, err, want)
	}
	if tt.want == nil && made.Object.Tag != stored.Object.Tag {
		t.Errorf("Replace returns tag %q, want %q", made.Object.Tag, stored.Object.Tag)
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
	if stored := read(t, direct); stored.Value.Text != "mine" {
		t.Errorf("Read after Replace = %q, want \"mine\"", stored.Value.Text)
	}
}
