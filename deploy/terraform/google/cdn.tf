# Cloud CDN serves links that berth has signed, and nothing but data/. See
# deploy/cdn/cloudcdn-urlmap.yaml and cloudcdn-condition.yaml.

locals {
  cdn       = var.cdn == null ? 0 : 1
  condition = yamldecode(file("${path.module}/../../cdn/cloudcdn-condition.yaml"))
}

# Requests for paths other than data/ go to this bucket, which must stay empty.
resource "google_storage_bucket" "nothing" {
  count                       = local.cdn
  project                     = var.project
  name                        = "${var.bucket}-nothing"
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
}

resource "google_compute_backend_bucket" "nothing" {
  count       = local.cdn
  project     = var.project
  name        = "${var.name}-nothing"
  bucket_name = google_storage_bucket.nothing[0].name
}

resource "google_compute_backend_bucket" "blobs" {
  count       = local.cdn
  project     = var.project
  name        = var.name
  bucket_name = google_storage_bucket.blobs.name
  enable_cdn  = true

  cdn_policy {
    cache_mode = "FORCE_CACHE_ALL"
  }
}

resource "google_compute_backend_bucket_signed_url_key" "cdn" {
  count          = local.cdn
  project        = var.project
  name           = "${var.name}-1"
  backend_bucket = google_compute_backend_bucket.blobs[0].name
  key_value      = var.cdn_key
}

# The service account of Cloud CDN exists once the first key does.
resource "google_storage_bucket_iam_member" "cdn" {
  count  = local.cdn
  bucket = google_storage_bucket.blobs.name
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:service-${data.google_project.current.number}@cloud-cdn-fill.iam.gserviceaccount.com"

  condition {
    title       = local.condition.title
    description = local.condition.description
    expression  = replace(local.condition.expression, "BUCKET", var.bucket)
  }

  depends_on = [google_compute_backend_bucket_signed_url_key.cdn]
}

resource "google_compute_url_map" "cdn" {
  count           = local.cdn
  project         = var.project
  name            = var.name
  default_service = google_compute_backend_bucket.nothing[0].id

  host_rule {
    hosts        = [var.cdn.host]
    path_matcher = "blobs"
  }

  path_matcher {
    name            = "blobs"
    default_service = google_compute_backend_bucket.nothing[0].id

    path_rule {
      paths   = ["/data/*"]
      service = google_compute_backend_bucket.blobs[0].id
    }
  }
}

resource "google_compute_managed_ssl_certificate" "cdn" {
  count   = local.cdn
  project = var.project
  name    = "${var.name}-cdn"

  managed {
    domains = [var.cdn.host]
  }
}

resource "google_compute_target_https_proxy" "cdn" {
  count            = local.cdn
  project          = var.project
  name             = "${var.name}-cdn"
  url_map          = google_compute_url_map.cdn[0].id
  ssl_certificates = [google_compute_managed_ssl_certificate.cdn[0].id]
}

resource "google_compute_global_address" "cdn" {
  count   = local.cdn
  project = var.project
  name    = "${var.name}-cdn"
}

resource "google_compute_global_forwarding_rule" "cdn" {
  count                 = local.cdn
  project               = var.project
  name                  = "${var.name}-cdn"
  target                = google_compute_target_https_proxy.cdn[0].id
  ip_address            = google_compute_global_address.cdn[0].id
  port_range            = "443"
  load_balancing_scheme = "EXTERNAL_MANAGED"
}
