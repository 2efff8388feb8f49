# A container for berth on Azure Blob Storage, with its lifecycle, the least
# permissions, and Front Door. Permissions and lifetimes are those of deploy/azure.
#
# The account has no keys, so the provider needs storage_use_azuread = true.

terraform {
  required_version = ">= 1.6"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.9"
    }
  }
}

data "azurerm_subscription" "current" {}

locals {
  # The examples in deploy/azure.
  role       = jsondecode(file("${path.module}/../../azure/role.json"))
  role_sign  = jsondecode(file("${path.module}/../../azure/role-sign.json"))
  role_check = jsondecode(file("${path.module}/../../azure/role-check.json"))
  lifecycle  = jsondecode(file("${path.module}/../../azure/lifecycle.json")).rules[0].definition.actions
}

resource "azurerm_storage_account" "blobs" {
  name                            = var.account
  resource_group_name             = var.resource_group
  location                        = var.location
  account_tier                    = "Standard"
  account_kind                    = "StorageV2"
  account_replication_type        = var.replication
  is_hns_enabled                  = false # berth needs a flat namespace
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  shared_access_key_enabled       = false # the identity signs URLs
  allow_nested_items_to_be_public = false
  tags                            = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_storage_container" "blobs" {
  name                  = var.container
  storage_account_id    = azurerm_storage_account.blobs.id
  container_access_type = "private"
}

resource "azurerm_storage_management_policy" "blobs" {
  storage_account_id = azurerm_storage_account.blobs.id

  rule {
    name    = "berth-drop-deleted"
    enabled = true

    filters {
      blob_types   = ["blockBlob"]
      prefix_match = ["${var.container}/"]
    }

    actions {
      version {
        delete_after_days_since_creation = local.lifecycle.version.delete.daysAfterCreationGreaterThan
      }
      snapshot {
        delete_after_days_since_creation_greater_than = local.lifecycle.snapshot.delete.daysAfterCreationGreaterThan
      }
    }
  }
}

resource "azurerm_user_assigned_identity" "berth" {
  name                = "berth-${var.account}"
  resource_group_name = var.resource_group
  location            = var.location
  tags                = var.tags
}

resource "azurerm_federated_identity_credential" "aks" {
  count               = var.aks == null ? 0 : 1
  name                = "berth"
  resource_group_name = var.resource_group
  parent_id           = azurerm_user_assigned_identity.berth.id
  audience            = ["api://AzureADTokenExchange"]
  issuer              = var.aks.issuer
  subject             = "system:serviceaccount:${var.aks.namespace}:${var.aks.service_account}"
}

# A definition's name is unique in its directory, so it has the account's name.
resource "azurerm_role_definition" "berth" {
  name        = "${local.role.Name} ${var.account}"
  scope       = data.azurerm_subscription.current.id
  description = local.role.Description

  permissions {
    actions      = local.role.Actions
    data_actions = local.role.DataActions
  }
}

resource "azurerm_role_assignment" "berth" {
  scope              = "${azurerm_storage_account.blobs.id}/blobServices/default/containers/${azurerm_storage_container.blobs.name}"
  role_definition_id = azurerm_role_definition.berth.role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.berth.principal_id
}

resource "azurerm_role_definition" "sign" {
  name        = "${local.role_sign.Name} ${var.account}"
  scope       = data.azurerm_subscription.current.id
  description = local.role_sign.Description

  permissions {
    actions      = local.role_sign.Actions
    data_actions = local.role_sign.DataActions
  }
}

resource "azurerm_role_assignment" "sign" {
  scope              = azurerm_storage_account.blobs.id
  role_definition_id = azurerm_role_definition.sign.role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.berth.principal_id
}

resource "azurerm_role_definition" "check" {
  count       = var.check ? 1 : 0
  name        = "${local.role_check.Name} ${var.account}"
  scope       = data.azurerm_subscription.current.id
  description = local.role_check.Description

  permissions {
    actions      = local.role_check.Actions
    data_actions = local.role_check.DataActions
  }
}

resource "azurerm_role_assignment" "check" {
  count              = var.check ? 1 : 0
  scope              = azurerm_storage_account.blobs.id
  role_definition_id = azurerm_role_definition.check[0].role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.berth.principal_id
}
