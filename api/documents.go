package api

import _ "embed" // for the documents

// The published contracts, OpenAPI 3.1. Two documents, for the two APIs share paths that mean different things.
var (
	//go:embed door.yaml
	DoorDocument string // what buyers may ask a front door

	//go:embed operations.yaml
	OperationsDocument string // what operators, the shop and doors may ask a worker
)

// Paths at which workers serve the documents.
const (
	PathDocument     = "/v1/openapi.yaml"
	PathDoorDocument = "/v1/openapi-door.yaml"
)

// ContentYAML is the media type of the documents (RFC 9512).
const ContentYAML = "application/yaml"
