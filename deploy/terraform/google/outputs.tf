output "bucket" {
  description = "storage.gcs.bucket"
  value       = google_storage_bucket.blobs.name
}

output "service_account" {
  description = "Service account of berth, for the annotation iam.gke.io/gcp-service-account."
  value       = google_service_account.berth.email
}

output "cdn_address" {
  description = "Address for the DNS record of the CDN's host."
  value       = one(google_compute_global_address.cdn[*].address)
}

output "cdn_base_url" {
  description = "redirect.cdn.<name>.base_url"
  value       = var.cdn == null ? null : "https://${var.cdn.host}"
}

output "cdn_key_id" {
  description = "redirect.cdn.<name>.keys[0].id"
  value       = one(google_compute_backend_bucket_signed_url_key.cdn[*].name)
}
