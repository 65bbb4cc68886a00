mock_provider "google" {}

run "plans" {
  command = plan

  variables {
  }
}
