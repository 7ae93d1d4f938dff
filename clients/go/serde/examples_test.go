package serde_test

import (
	"testing"

	"github.com/sluicelog/sluice/tests/examples"
)

func TestEveryExportedNameHasAnExample(t *testing.T) { examples.Check(t, ".") }
