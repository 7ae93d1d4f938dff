package gateway_test

import (
	"regexp"
	"slices"
	"strings"

	"github.com/sluicelog/sluice/tests/contract"
)

// rules say what the document says in words only, and for which refusals no
// schema is to blame.
var rules = contract.Rules{
	Taken: patterns(
		// The media types of other servers, protobuf's other names, and a field of
		// the path in the body.
		`^POST /topics/.*: a body of "application/(vnd\.kafka[a-z0-9.]*\+json|json)"$`,
		`^POST /topics/.*: a body of "application/octet-stream"$`,
		`(body\.|no parameter ")[a-z]+[A-Z]\w*("| is not in the document)$`,
		`: body\.topic is not in the document$`,
		`/offsets: body: null, not \[object\]$`,
		`body\.format: "JSON" is none of`,
		// Text in ISO 8859-1, which v3 takes.
		`/records: body: it is not UTF-8$`,
		// What is wrong with an entry of a batch, whose own failure says so.
		`/records:batch: body\.entries\[0\]\.\w+ is missing beside producer_id$`,
	),
	Beyond: slices.Concat(existing, meanings, either, syntax, schemas),
}

const (
	v1Topics = `POST /v1/topics`
	v1Write  = `POST /v1/topics/{topic}/records`
	v1Read   = `GET /v1/topics/{topic}/partitions/{partition}/records`
	v1Live   = `GET /v1/topics/{topic}/records:stream`
	v2Write  = `POST /topics/{topic}`
	v2Place  = `POST /topics/{topic}/partitions/{partition}`
	v2Read   = `GET /topics/{topic}/partitions/{partition}/records`
	v2Member = `POST /consumers/{group}/instances/{instance}`
	v3Topics = `/v3/clusters/{cluster}/topics`
	v3Write  = `POST /v3/clusters/{cluster}/topics/{topic}/records`

	invalid = `400 The request is not valid: `
	unjust  = `422 Error: 42206 : Payload error\. `
)

// existing are the refusals for what there is and what there is not.
var existing = slices.Concat(
	refusals(`GET /topics|GET /brokers|GET /v3/clusters/{cluster}/brokers|`+
		v1Write+`|`+v2Write+`|`+v2Place+`|`+v3Write,
		`400 The request is against the policy of the cluster\.`), // as a broker may say
	refusals(v1Topics+`|POST `+v3Topics,
		`400 Invalid number of partitions: a topic has 1 to \d+ \(topic\.max\.partitions\) `+
			`partitions, not -?\d+`,
		`400 Invalid replication factor: the replication factor is 9, and 1 nodes are available`,
		`400 Invalid value \w+ for setting \w+: there is no such topic setting; .*`),
	refusals(`POST `+v3Topics,
		`400 Invalid replica assignment: partition 0: there is no available node 9`,
		invalid+`replicas_assignments: partition 1 is there, and not all before it`,
		`400 Topic 'orders' already exists\.`),
	refusals(`GET `+v3Topics+`/{topic}/default-configs`,
		`400 Topic 'orders' already exists\.`, `422 Payload error\. Invalid topic name\.`),
	refusals(`POST /v1/topics/{topic}:addPartitions|PATCH `+v3Topics+`/{topic}`,
		`400 Invalid number of partitions: topic orders has 2 partitions, and 1 are not more`,
		`400 Topic already has 2 partitions\.`),
	refusals(`PUT `+v3Topics+`/{topic}/configs/{name}`,
		`400 Invalid value x for setting cleanup\.policy: it takes a list, .*`),
	refusals(`(?:GET|DELETE) /v3/clusters/{cluster}/acls`,
		`400 No Authorizer is configured on the broker`),
	refusals(v1Read+`|`+v1Live+`|`+v2Read+`|POST /v1/topics/{topic}:trim`,
		`400 Offset -?\d+ is outside the log: it holds 0 to \d+\.`),
	refusals(v1Write+`|`+v2Write+`|`+v2Place+`|`+v3Write,
		`422 The idempotency key was used for another request(?:\.|`+
			`: it was used for (?:other records|another number of records))`),
	refusals(v2Read, `422 Payload error\. orders-0 at offset 1: value: not in the json format, .*`),
)

// meanings are the refusals for what a text says, or how large a number is.
var meanings = slices.Concat(
	refusals(v1Topics, `400 Topic name (?:a/b|\.\.|a{250}) is not valid: it .*`,
		`400 Topic name a/b is not valid: the character "/" at position 2 is not allowed`),
	refusals(v2Member+`/subscription`, `400 Topic name \.\. is not valid\.`,
		`400 The pattern \( is not valid: error parsing regexp: .*`),
	refusals(`GET /v1/topics`, invalid+`page_token: is not one that this list returned`),
	refusals(`GET /v1/topics/{topic}`,
		invalid+`topic: not UTF-8, or not percent-encoded, in the path`),
	refusals(`GET /v1/topics/{topic}/partitions/{partition}/offsets`,
		invalid+`at: is none of earliest, latest, .*`),
	refusals(v2Read+`|`+v1Live, invalid+`at: no time`),
	refusals(v1Live,
		invalid+`(?:from|Last-Event-ID): not the id of an event of this stream, such as 0:42,1:17`,
		invalid+`from: "(?:@|yesterday)" is none of earliest, latest, .*`),
	refusals(v1Read, invalid+`offset: 9223372036854775808 is out of range: .*`),
	refusals(v2Member+`/positions`,
		invalid+`timestamps\[0\]\.timestamp: "soon" is no RFC 3339 time such as .*`),
	refusals(v2Member+`/offsets`,
		invalid+`offsets\[0\]\.offset: is too large: the next one is committed`),
	refusals(v3Write, invalid+`timestamp: "now" is no RFC 3339 time such as .*`),
	refusals(v1Write, invalid+`expected_offset: is -1, at least 0`, // a string of digits
		invalid+`records\[0\]\.headers: more than 64 headers`,
		`400 The timestamp is out of the acceptable range: `+
			`records\[1\]\.timestamp: is no time from 1970 to 9999`,
		`400 The record batch is corrupt or malformed: corrupt batch: magic is 0, want 2`),
)

// either are the refusals for two things that exclude or need each other.
var either = slices.Concat(
	refusals(v2Read, invalid+`timestamp: excludes offset`),
	refusals(v2Member+`/offsets`, invalid+`partitions: excludes offsets`),
	refusals(v2Member+`/positions`,
		`422 The request is well-formed but not valid: offsets: or timestamps is required`),
	refusals(v2Member+`/subscription`,
		`422 The request is well-formed but not valid: topics: or topic_pattern is required`),
	refusals(`GET /v1/groups/{group}:consume`,
		invalid+`the path takes a WebSocket handshake`,
		invalid+`topic: required with other parameters; without any, the first message is join`),
	refusals(`POST `+v3Topics+`/{topic}/configs:alter`,
		invalid+`data\[0\]\.value: is required to SET`),
	refusals(v3Write+`:batch`, `422 Batch entry IDs are not distinct\.`),
	refusals(v1Write, invalid+`records: is empty; send 1 to 10000`, // or a batch
		invalid+`idempotency_key: the header Idempotency-Key says something else`,
		invalid+`producer_epoch: is missing: `+
			`producer_id, producer_epoch and base_sequence go together`),
)

// syntax are the refusals for JSON's own rules, and for how a body is encoded.
var syntax = slices.Concat(
	refusals(`POST /consumers/{group}`, invalid+`name: occurs twice`),
	refusals(v1Topics,
		invalid+`the body is not JSON: (?:a lone surrogate in a string|`+
			`the name "topic" occurs twice).*`),
	refusals(v1Write+`|`+v2Write+`|`+v3Write,
		invalid+`(?:records\[0\]\.)?(?:key|value): occurs twice`,
		invalid+`(?:records\[1\]\.value|value\.data): (?:nested deeper than 64 levels`+
			`|the name "a" occurs twice|a lone surrogate in a string: it is half a character)`+
			` at line 1, column \d+`,
		invalid+`records\[0\]\.headers\[0\]\.name: a lone surrogate in a string: .*`),
	refusals(v1Topics+`|`+v2Write,
		`415 HTTP 415 Unsupported Media Type: charset is "[^"]+"; the path takes utf-8`),
	refusals(v3Write, invalid+`charset is "utf-16", one of UTF-8, ISO-8859-1`),
	refusals(v1Write, `415 HTTP 415 Unsupported Media Type: Content-Encoding is "[^"]+"; `+
		`the path takes gzip, zstd, identity`,
		invalid+`the body cannot be read: (?:unexpected EOF|gzip: invalid header|`+
			`invalid input: magic number mismatch)`),
)

// schemas are the refusals for what type and schema a value is said to be of.
var schemas = slices.Concat(
	refusals(v2Write,
		`415 HTTP 415 Unsupported Media Type: Content-Type is `+
			`"application/vnd\.kafka\.avro\.v2\+json"; .*`, // without a registry
		`422 Invalid schema: (?:schema \d+: parsing the schema: .*|not a schema)`,
		`422 Error serializing message\. records\[[01]\]\.value: \$\.felt.*`,
		`422 Request includes (?:keys but does not include key|`+
			`values but does not include value) schema`),
	refusals(v3Write,
		`400 Bad Request: data=(?:"\*" is not a valid base64 string: .*|`+
			`1 is not a base64 string\.|\{"a":1\} is not a string\.)`,
		`400 Bad Request: data is null, and a raw schema has no use for it\.`,
		`400 Bad Request: \$: a string, and a value of the union of int is written .*`,
		`422 Error: 42205 : Invalid schema: parsing the schema: not valid JSON: .*`,
		unjust+`'schema' can only be used with 'type'\.`,
		unjust+`'schema' is required with 'type' AVRO; .*`,
		unjust+`'schema_id' and 'schema_version' (?:cannot be used with 'type'|`+
			`exclude each other)\.`,
		unjust+`'schema_id' cannot be used with 'type' BINARY\.`,
		unjust+`'subject' and 'subject_name_strategy' exclude each other\.`,
		unjust+`'subject_name_strategy' (?:TOPIC_)?RECORD_NAME needs a schema with a name: .*`),
)

func patterns(texts ...string) (list []*regexp.Regexp) {
	for _, text := range texts {
		list = append(list, regexp.MustCompile(text))
	}
	return list
}

// refusals returns patterns for some operations' statuses and messages.
func refusals(operations string, answers ...string) []*regexp.Regexp {
	operations = strings.NewReplacer("{", `\{`, "}", `\}`).Replace(operations)
	return patterns(`^(?:` + operations + `): (?:` + strings.Join(answers, "|") + `)$`)
}
