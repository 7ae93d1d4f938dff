package gateway

import (
	"net/http"

	"github.com/sluicelog/sluice/internal/fault"
)

var v3ACLRoutes = []v3Route{
	{http.MethodGet, "/acls", v3NoACLs, aclQuery},
	{http.MethodPost, "/acls", v3NoACLs, nil},
	{http.MethodDelete, "/acls", v3NoACLs, aclQuery},
	{http.MethodPost, "/acls:batch", v3NoACLs, nil},
}

var aclQuery = []string{
	"resource_type", "resource_name", "pattern_type", "principal", "host", "operation",
	"permission",
}

// v3NoACLs answers as a cluster whose brokers have no authorizer does.
func v3NoACLs(c *v3Call) (any, error) {
	if c.r.Method == http.MethodDelete {
		for _, name := range []string{"resource_type", "pattern_type", "operation", "permission"} {
			switch c.r.URL.Query().Get(name) {
			case "", "UNKNOWN":
				return nil, &shaped{
					http.StatusBadRequest, http.StatusBadRequest,
					name + " cannot be unspecified or UNKNOWN",
					fault.InvalidRequest.With().At(name, "is required"),
				}
			}
		}
	}
	return nil, v3Refused("No Authorizer is configured on the broker")
}
