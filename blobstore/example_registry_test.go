package blobstore_test

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/memory"
)

const mediaTypeImage = "application/vnd.oci.image.manifest.v1+json"

// inRepository calls do with a repository in memory that has the empty JSON as a blob, and
// prints the error.
func inRepository(do func(ctx context.Context, repo *blobstore.Repository) error) {
	ctx := context.Background()
	repo, err := openRepository(ctx)
	if err == nil {
		err = do(ctx, repo)
	}
	if err != nil {
		fmt.Println(err)
	}
}

func openRepository(ctx context.Context) (*blobstore.Repository, error) {
	bucket, err := memory.Open(ctx, memory.Config{})
	if err != nil {
		return nil, err
	}
	store, err := blobstore.Open(ctx, bucket, blobstore.Config{})
	if err != nil {
		return nil, err
	}
	name, err := reference.WithName("team/app")
	if err != nil {
		return nil, err
	}
	repo := store.Repository(name)
	_, err = repo.Put(ctx, "", []byte("{}"))
	return repo, err
}

// artifact returns a manifest whose only blob is the empty JSON. The fields are added to
// it.
func artifact(artifactType, fields string) blobstore.ManifestPut {
	content := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":%q%s,
		"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[]}`,
		mediaTypeImage, artifactType, fields, digest.FromString("{}"))
	return blobstore.ManifestPut{Content: []byte(content)}
}

// Push a manifest by a tag, and read it by the tag.
func ExampleManifests_Put() {
	inRepository(func(ctx context.Context, repo *blobstore.Repository) error {
		put := artifact("application/vnd.example.thing", "")
		put.Tags = []string{"v1", "latest"}
		if _, err := repo.Manifests().Put(ctx, put); err != nil {
			return err
		}

		desc, err := repo.Tags().Get(ctx, "latest")
		if err != nil {
			return err
		}
		m, err := repo.Manifests().Get(ctx, desc.Digest)
		if err != nil {
			return err
		}
		fmt.Println(m.MediaType)
		fmt.Println(string(m.Content) == string(put.Content))

		// A release is pushed once.
		put = artifact("application/vnd.example.other", "")
		put.Tags = []string{"v1"}
		put.Condition = blobstore.TagCondition{Absent: true}
		_, err = repo.Manifests().Put(ctx, put)
		fmt.Println(err)
		return nil
	})

	// Output:
	// application/vnd.oci.image.manifest.v1+json
	// true
	// the tag does not fulfil the condition: v1 exists
}

// Move a tag to a manifest that the repository has, and delete a tag.
func ExampleTags() {
	inRepository(func(ctx context.Context, repo *blobstore.Repository) error {
		put := artifact("application/vnd.example.thing", "")
		put.Tags = []string{"nightly"}
		desc, err := repo.Manifests().Put(ctx, put)
		if err != nil {
			return err
		}

		tags := repo.Tags()
		if err := tags.Tag(ctx, "stable", desc.Descriptor); err != nil {
			return err
		}
		fmt.Println(tags.Lookup(ctx, desc.Descriptor))
		if err := tags.Untag(ctx, "nightly"); err != nil {
			return err
		}
		fmt.Println(tags.All(ctx))
		return nil
	})

	// Output:
	// [nightly stable] <nil>
	// [stable] <nil>
}

// Attach a manifest to another one, and list what is attached.
func ExampleManifests_Referrers() {
	inRepository(func(ctx context.Context, repo *blobstore.Repository) error {
		manifests := repo.Manifests()
		subject, err := manifests.Put(ctx, artifact("application/vnd.example.thing", ""))
		if err != nil {
			return err
		}
		signature := artifact("application/vnd.example.signature",
			fmt.Sprintf(`,"annotations":{"by":"us"},"subject":{"mediaType":%q,"digest":%q,"size":%d}`, subject.MediaType, subject.Digest, subject.Size))
		if _, err := manifests.Put(ctx, signature); err != nil {
			return err
		}

		for desc, err := range manifests.Referrers(ctx, subject.Digest, "") {
			if err != nil {
				return err
			}
			fmt.Println(desc.ArtifactType, desc.Annotations)
		}
		return nil
	})

	// Output:
	// application/vnd.example.signature map[by:us]
}
