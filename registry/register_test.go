package registry

import (
	"testing"
)

func TestFirstRegistration(t *testing.T) {
	g := fresh(t)
	g.ok("GET", "/subjects", "", `[]`)
	g.ok("POST", "/subjects/s/versions", posting(` {"type" : "int"}`), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", posting(`"int"`), `{"id":1}`)
	g.ok("POST", "/subjects/t/versions", posting(`"int"`), `{"id":1}`)
	g.ok("POST", "/subjects/t/versions", posting(`"long"`), `{"id":2}`)
	g.ok("GET", "/subjects", "", `["s","t"]`)
	g.ok("GET", "/subjects/t/versions", "", `[1,2]`)
	g.ok("GET", "/schemas/ids/2", "",
		`{"schema":"\"long\"","schemaType":"AVRO","guid":"e1dd9a1e-f98b-451b-5369-0370b393966b"}`)
}
