output "account" {
  description = "storage.azure.account"
  value       = azurerm_storage_account.blobs.name
}

output "container" {
  description = "storage.azure.container"
  value       = azurerm_storage_container.blobs.name
}

output "client_id" {
  description = "Client id of berth's identity, for the annotation azure.workload.identity/client-id."
  value       = azurerm_user_assigned_identity.berth.client_id
}

output "cdn_base_url" {
  description = "redirect.cdn.<name>.base_url"
  value       = one([for e in azurerm_cdn_frontdoor_endpoint.cdn : "https://${e.host_name}/${var.container}"])
}
