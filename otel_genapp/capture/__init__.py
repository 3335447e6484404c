"""What happens in the app becomes OTel spans and measurements. Knows the OTel API and the hub."""
