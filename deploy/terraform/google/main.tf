# A bucket for berth on Google Cloud Storage, with its lifecycle, the least permissions,
# and Cloud CDN. Permissions and lifetimes are those of deploy/gcs.

terraform {
  required_version = ">= 1.6"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0"
    }
  }
}

data "google_project" "current" {
  project_id = var.project
}

locals {
  # The examples in deploy/gcs.
  role       = yamldecode(file("${path.module}/../../gcs/role.yaml"))
  role_check = yamldecode(file("${path.module}/../../gcs/role-check.yaml"))
  role_sign  = yamldecode(file("${path.module}/../../gcs/role-sign.yaml"))
  lifecycle  = jsondecode(file("${path.module}/../../gcs/lifecycle.json")).lifecycle.rule

  suffix = replace(replace(var.bucket, "-", "_"), ".", "_") # of the ids of roles
}

# Signing URLs without a key of the service account needs this API.
resource "google_project_service" "iamcredentials" {
  project            = var.project
  service            = "iamcredentials.googleapis.com"
  disable_on_destroy = false
}

resource "google_storage_bucket" "blobs" {
  project                     = var.project
  name                        = var.bucket
  location                    = var.location
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # berth deletes parts of uploads, and what its collector finds. Soft delete would keep
  # and charge for them.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = local.lifecycle[0].condition.age
      matches_prefix = local.lifecycle[0].condition.matchesPrefix
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = local.lifecycle[1].condition.daysSinceNoncurrentTime
      with_state                 = "ARCHIVED"
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_service_account" "berth" {
  project      = var.project
  account_id   = var.name
  display_name = "berth"
}

resource "google_project_iam_custom_role" "berth" {
  project     = var.project
  role_id     = "berth_${local.suffix}"
  title       = local.role.title
  description = local.role.description
  permissions = local.role.includedPermissions
}

resource "google_storage_bucket_iam_member" "berth" {
  bucket = google_storage_bucket.blobs.name
  role   = google_project_iam_custom_role.berth.id
  member = google_service_account.berth.member
}

resource "google_project_iam_custom_role" "check" {
  count       = var.check ? 1 : 0
  project     = var.project
  role_id     = "berth_check_${local.suffix}"
  title       = local.role_check.title
  description = local.role_check.description
  permissions = local.role_check.includedPermissions
}

resource "google_storage_bucket_iam_member" "check" {
  count  = var.check ? 1 : 0
  bucket = google_storage_bucket.blobs.name
  role   = google_project_iam_custom_role.check[0].id
  member = google_service_account.berth.member
}

resource "google_project_iam_custom_role" "sign" {
  project     = var.project
  role_id     = "berth_sign_${local.suffix}"
  title       = local.role_sign.title
  description = local.role_sign.description
  permissions = local.role_sign.includedPermissions
}

# The service account signs as itself, and as no other.
resource "google_service_account_iam_member" "sign" {
  service_account_id = google_service_account.berth.name
  role               = google_project_iam_custom_role.sign.id
  member             = google_service_account.berth.member
}

resource "google_service_account_iam_member" "gke" {
  count              = var.gke == null ? 0 : 1
  service_account_id = google_service_account.berth.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.gke.namespace}/${var.gke.service_account}]"
}
