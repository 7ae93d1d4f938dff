package fault

import (
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

// The rows, sorted by name. Confluent's numbers are those of its REST Proxy.
var (
	AuthenticationFailed = row(Fault{
		Reason: "SASL_AUTHENTICATION_FAILED", Code: codes.Unauthenticated,
		HTTP: http.StatusUnauthorized, ErrorCode: 40101,
		Message: "Authentication failed.",
		Hint:    "Send valid credentials.",
	})
	AuthorizationFailed = row(Fault{
		Reason: "TOPIC_AUTHORIZATION_FAILED", Code: codes.PermissionDenied,
		HTTP: http.StatusForbidden, ErrorCode: 40301,
		Message: "Not authorized.",
		Hint:    "Ask for an ACL that allows the operation.",
	})
	BrokerNotAvailable = row(Fault{
		Reason: "BROKER_NOT_AVAILABLE", Code: codes.Unavailable,
		HTTP: http.StatusServiceUnavailable, ErrorCode: 50302, Retriable: true,
		Message: "The broker is not available.",
		Hint:    "Retry with backoff; GET /readyz says why a node is not ready.",
	})
	Cancelled = row(Fault{
		Reason: "REQUEST_CANCELLED", Code: codes.Canceled, HTTP: 499, ErrorCode: 499,
		Message: "The caller cancelled the request.",
		Hint:    "Nothing: the caller went away before the answer.",
	})
	CoordinatorNotAvailable = row(Fault{
		Reason: "COORDINATOR_NOT_AVAILABLE", Code: codes.Unavailable,
		HTTP: http.StatusServiceUnavailable, ErrorCode: 50003, Retriable: true,
		Message: "The coordinator of group {group} is not available.",
		Hint:    "Retry with backoff: it is loading or moving.",
	})
	CorruptMessage = row(Fault{
		Reason: "CORRUPT_MESSAGE", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 400,
		Message: "The record batch is corrupt or malformed.",
		Hint:    "Encode the batch again: RecordBatch v2, whole, with a right CRC-32C.",
	})
	CorruptLog = row(Fault{
		Reason: "KAFKA_STORAGE_CORRUPT", Code: codes.DataLoss,
		HTTP: http.StatusInternalServerError, ErrorCode: 50002,
		Message: "The stored log is damaged[ at {topic}-{partition}][ offset {offset}].",
		Hint:    "The disk lost or changed data. Read on from a later offset, and check the disk.",
	})
	DuplicateSequenceNumber = row(Fault{
		Reason: "DUPLICATE_SEQUENCE_NUMBER", Code: codes.AlreadyExists,
		HTTP: http.StatusConflict, ErrorCode: 409,
		Message: "The sequence {base_sequence} of producer {producer_id} is older than the " +
			"batches that are remembered.",
		Hint: "The batch was written before; its offset is no longer known.",
	})
	ElectionNotNeeded = row(Fault{
		Reason: "ELECTION_NOT_NEEDED", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: http.StatusConflict,
		Message: "{topic}-{partition} has the leader that it should have.",
		Hint:    "Nothing: there is no other leader to elect.",
	})
	EligibleLeadersNotAvailable = row(Fault{
		Reason: "ELIGIBLE_LEADERS_NOT_AVAILABLE", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: http.StatusConflict,
		Message: "{topic}-{partition} has no replica that could be made the leader so.",
		Hint:    "Start the brokers that keep its replicas, or name one that is there.",
	})
	FencedInstanceID = row(Fault{
		Reason: "FENCED_INSTANCE_ID", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: 409,
		Message: "The instance id {instance_id} of group {group} belongs to another member.",
		Hint:    "Another process runs with the same instance id: give each its own.",
	})
	FencedMemberEpoch = row(Fault{
		Reason: "FENCED_MEMBER_EPOCH", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: 409,
		Message: "Member {member_id} of group {group} has the epoch {current_epoch}, not " +
			"{member_epoch}.",
		Hint: "The member owns nothing any more: drop all without committing, and join again.",
	})
	GroupIDNotFound = row(Fault{
		Reason: "GROUP_ID_NOT_FOUND", Code: codes.NotFound,
		HTTP: http.StatusNotFound, ErrorCode: 40403,
		Message: "Group {group} does not exist.",
		Hint:    "A group exists once it has committed an offset or has a member.",
	})
	GroupMaxSizeReached = row(Fault{
		Reason: "GROUP_MAX_SIZE_REACHED", Code: codes.ResourceExhausted,
		HTTP: http.StatusTooManyRequests, ErrorCode: http.StatusTooManyRequests,
		Message: "Group {group} has {count} members, the limit of {setting}.",
		Hint:    "Run fewer consumers in the group, or raise the limit.",
	})
	GroupNotEmpty = row(Fault{
		Reason: "NON_EMPTY_GROUP", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: 409,
		Message: "Group {group} has members.",
		Hint:    "Stop its members first.",
	})
	GroupSubscribedToTopic = row(Fault{
		Reason: "GROUP_SUBSCRIBED_TO_TOPIC", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: 409,
		Message: "Members of group {group} are subscribed to topic {topic}.",
		Hint:    "Stop them first, or let them subscribe to something else.",
	})
	IdempotencyKeyInUse = row(Fault{
		Reason: "IDEMPOTENCY_KEY_IN_USE", Code: codes.Aborted,
		HTTP: http.StatusConflict, ErrorCode: http.StatusConflict, Retriable: true,
		Message: "A request with this Idempotency-Key is still being worked on.",
		Hint:    "Send the request again after the time in Retry-After.",
	})
	IdempotencyKeyReused = row(Fault{
		Reason: "IDEMPOTENCY_KEY_REUSED", Code: codes.FailedPrecondition,
		HTTP: http.StatusUnprocessableEntity, ErrorCode: http.StatusUnprocessableEntity,
		Message: "The idempotency key was used for another request.",
		Hint:    "Make up a new key for each request, and use it again for its retries only.",
	})
	IllegalState = row(Fault{
		Reason: "ILLEGAL_STATE", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: 40903,
		Message: "Illegal state.",
		Hint:    "The message says which step is missing or excluded.",
	})
	InvalidConfig = row(Fault{
		Reason: "INVALID_CONFIG", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 40002,
		Message: "Invalid value {value} for setting {name}.",
		Hint:    "docs/configs.md lists every setting with its type and range.",
	})
	InvalidGroupID = row(Fault{
		Reason: "INVALID_GROUP_ID", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 40002,
		Message: "The group id {group} is not valid.",
		Hint:    "A group id is 1 to 255 bytes of UTF-8 without control characters.",
	})
	InvalidPartitions = row(Fault{
		Reason: "INVALID_PARTITIONS", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 40002,
		Message: "Invalid number of partitions.",
		Hint:    "A topic has at least one partition, and its number only grows.",
	})
	InvalidProducerEpoch = row(Fault{
		Reason: "INVALID_PRODUCER_EPOCH", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: 409,
		Message: "Producer {producer_id} has a newer epoch than {producer_epoch}.",
		Hint:    "Another producer took over this id; ask for a new one.",
	})
	InvalidRecord = row(Fault{
		Reason: "INVALID_RECORD", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 400,
		Message: "The record is not valid.",
		Hint:    "The message names the record and what is wrong with it.",
	})
	InvalidRegularExpression = row(Fault{
		Reason: "INVALID_REGULAR_EXPRESSION", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 40002,
		Message: "The pattern {pattern} is not valid.",
		Hint:    "A pattern is RE2 of at most 512 bytes that matches whole topic names.",
	})
	InvalidReplicaAssignment = row(Fault{
		Reason: "INVALID_REPLICA_ASSIGNMENT", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 40002,
		Message: "Invalid replica assignment.",
		Hint:    "Each partition needs the same number of distinct, existing brokers.",
	})
	InvalidReplicationFactor = row(Fault{
		Reason: "INVALID_REPLICATION_FACTOR", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 40002,
		Message: "Invalid replication factor.",
		Hint:    "It is at least 1 and at most the number of brokers.",
	})
	InvalidRequest = row(Fault{
		Reason: "INVALID_REQUEST", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 400,
		Message: "The request is not valid.",
		Hint:    "The message and the field violations say what is wrong and what would be right.",
	})
	InvalidTimestamp = row(Fault{
		Reason: "INVALID_TIMESTAMP", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 400,
		Message: "The timestamp is out of the acceptable range.",
		Hint:    "Milliseconds since 1970, not negative.",
	})
	InvalidTopic = row(Fault{
		Reason: "INVALID_TOPIC_EXCEPTION", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 40002,
		Message: "Topic name {topic} is not valid.",
		Hint:    "1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and not '.' or '..'.",
	})
	LeaderNotAvailable = row(Fault{
		Reason: "LEADER_NOT_AVAILABLE", Code: codes.Unavailable,
		HTTP: http.StatusServiceUnavailable, ErrorCode: 50003, Retriable: true,
		Message: "Nobody leads {topic}-{partition} at the moment.",
		Hint:    "Retry with backoff: no replica that holds every record is alive.",
	})
	MessageTooLarge = row(Fault{
		Reason: "MESSAGE_TOO_LARGE", Code: codes.InvalidArgument,
		HTTP: http.StatusRequestEntityTooLarge, ErrorCode: http.StatusRequestEntityTooLarge,
		Message: "The batch of {bytes} bytes is larger than the {limit} that {setting} allows.",
		Hint:    "Send smaller batches, or raise max.message.bytes of the topic.",
	})
	MethodNotAllowed = row(Fault{
		Reason: "METHOD_NOT_ALLOWED", Code: codes.Unimplemented,
		HTTP: http.StatusMethodNotAllowed, ErrorCode: http.StatusMethodNotAllowed,
		Message: "HTTP 405 Method Not Allowed",
		Hint:    "The Allow header lists the methods that the path takes.",
	})
	NoOffsetForPartition = row(Fault{
		Reason: "NO_OFFSET_FOR_PARTITION", Code: codes.OutOfRange,
		HTTP: http.StatusBadRequest, ErrorCode: 400,
		Message: "Group {group} has no offset of {topic}-{partition} to begin at, and " +
			"offset_reset is none.",
		Hint: "Store one with offsets:reset or offsets:commit, or reset to earliest or latest.",
	})
	NoReassignmentInProgress = row(Fault{
		Reason: "NO_REASSIGNMENT_IN_PROGRESS", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: http.StatusConflict,
		Message: "{topic}-{partition} is not being reassigned.",
		Hint:    "Nothing: there is nothing to cancel, or it is complete.",
	})
	NotAcceptable = row(Fault{
		Reason: "NOT_ACCEPTABLE", Code: codes.InvalidArgument,
		HTTP: http.StatusNotAcceptable, ErrorCode: http.StatusNotAcceptable,
		Message: "HTTP 406 Not Acceptable",
		Hint:    "The message lists the media types that the path answers with.",
	})
	NotController = row(Fault{
		Reason: "NOT_CONTROLLER", Code: codes.Unavailable,
		HTTP: http.StatusServiceUnavailable, ErrorCode: 50003, Retriable: true,
		Message: "The cluster's metadata cannot be changed at the moment.",
		Hint:    "Retry with backoff.",
	})
	NotEnoughReplicas = row(Fault{
		Reason: "NOT_ENOUGH_REPLICAS", Code: codes.Unavailable,
		HTTP: http.StatusServiceUnavailable, ErrorCode: 50003, Retriable: true,
		Message: "{topic}-{partition} has fewer in-sync replicas than min.insync.replicas.",
		Hint:    "Retry with backoff; nothing was written. Look for the brokers that are down.",
	})
	NotEnoughReplicasAfterAppend = row(Fault{
		Reason: "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Code: codes.Unavailable,
		HTTP: http.StatusServiceUnavailable, ErrorCode: 50003, Retriable: true,
		Message: "The records of {topic}-{partition} were written, but replicas fell out of " +
			"sync before they could be acknowledged.",
		Hint: "Retry with backoff: they may be there or not, so be an idempotent producer.",
	})
	NotLeaderOrFollower = row(Fault{
		Reason: "NOT_LEADER_OR_FOLLOWER", Code: codes.Unavailable,
		HTTP: http.StatusServiceUnavailable, ErrorCode: 50003, Retriable: true,
		Message: "This node does not lead {topic}-{partition}.",
		Hint:    "Refresh metadata and retry.",
	})
	OffsetNotAvailable = row(Fault{
		Reason: "OFFSET_NOT_AVAILABLE", Code: codes.Unavailable,
		HTTP: http.StatusServiceUnavailable, ErrorCode: 50003, Retriable: true,
		Message: "The new leader of {topic}-{partition} does not know yet what is committed.",
		Hint:    "Retry with backoff: its followers have to be heard of first.",
	})
	OffsetMetadataTooLarge = row(Fault{
		Reason: "OFFSET_METADATA_TOO_LARGE", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 40002,
		Message: "The offset metadata of {topic}-{partition} has {bytes} bytes, at most {limit}.",
		Hint:    "Keep less with the offset.",
	})
	OffsetMismatch = row(Fault{
		Reason: "OFFSET_MISMATCH", Code: codes.Aborted,
		HTTP: http.StatusConflict, ErrorCode: http.StatusConflict,
		Message: "expected_offset is {expected_offset}, but the next offset is {end_offset}.",
		Hint:    "Read up to end_offset, decide again, and send the new expectation.",
	})
	OffsetOutOfRange = row(Fault{
		Reason: "OFFSET_OUT_OF_RANGE", Code: codes.OutOfRange,
		HTTP: http.StatusBadRequest, ErrorCode: 400,
		Message: "Offset {offset} is outside the log: it holds {log_start_offset} " +
			"to {high_watermark}.",
		Hint: "Read from log_start_offset or high_watermark.",
	})
	OutOfOrderSequenceNumber = row(Fault{
		Reason: "OUT_OF_ORDER_SEQUENCE_NUMBER", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: 409,
		Message: "Producer {producer_id} sent sequence {base_sequence} where " +
			"{expected_sequence} follows.",
		Hint: "A batch before this one is missing: send it first, or start a new epoch.",
	})
	PayloadUnsupported = row(Fault{
		Reason: "UNSUPPORTED_MEDIA_TYPE", Code: codes.InvalidArgument,
		HTTP: http.StatusUnsupportedMediaType, ErrorCode: http.StatusUnsupportedMediaType,
		Message: "HTTP 415 Unsupported Media Type",
		Hint:    "The message lists the media types that the path takes.",
	})
	PolicyViolation = row(Fault{
		Reason: "POLICY_VIOLATION", Code: codes.FailedPrecondition,
		HTTP: http.StatusBadRequest, ErrorCode: 40002,
		Message: "The request is against the policy of the cluster.",
		Hint:    "The message names the limit and its setting.",
	})
	PreferredLeaderNotAvailable = row(Fault{
		Reason: "PREFERRED_LEADER_NOT_AVAILABLE", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: http.StatusConflict,
		Message: "The preferred leader of {topic}-{partition} is not in sync, or not there.",
		Hint:    "Start its broker, and wait until it is in sync.",
	})
	RequestTimedOut = row(Fault{
		Reason: "REQUEST_TIMED_OUT", Code: codes.DeadlineExceeded,
		HTTP: http.StatusGatewayTimeout, ErrorCode: 50003, Retriable: true,
		Message: "The request timed out.",
		Hint:    "A write may have happened: retry with a producer id and sequence.",
	})
	RequestTooLarge = row(Fault{
		Reason: "REQUEST_TOO_LARGE", Code: codes.ResourceExhausted,
		HTTP: http.StatusRequestEntityTooLarge, ErrorCode: http.StatusRequestEntityTooLarge,
		Message: "The request is too large[: the limit is {limit} of {setting}].",
		Hint:    "Send less at once.",
	})
	ResourceNotFound = row(Fault{
		Reason: "RESOURCE_NOT_FOUND", Code: codes.NotFound,
		HTTP: http.StatusNotFound, ErrorCode: http.StatusNotFound,
		Message: "HTTP 404 Not Found",
		Hint:    "/docs lists every path.",
	})
	StaleMemberEpoch = row(Fault{
		Reason: "STALE_MEMBER_EPOCH", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: 409,
		Message: "Member {member_id} of group {group} has the epoch {current_epoch}, not " +
			"{member_epoch}.",
		Hint: "Take the epoch of the next heartbeat, and commit again what is still owned.",
	})
	StorageError = row(Fault{
		Reason: "KAFKA_STORAGE_ERROR", Code: codes.Unavailable,
		HTTP: http.StatusServiceUnavailable, ErrorCode: 50003, Retriable: true,
		Message: "The storage of this node failed.",
		Hint:    "The node's log says why; it stops, and another takes over.",
	})
	StorageFull = row(Fault{
		Reason: "STORAGE_FULL", Code: codes.ResourceExhausted,
		HTTP: http.StatusInsufficientStorage, ErrorCode: http.StatusInsufficientStorage,
		Message: "The disk is full: {free_bytes} bytes are free, the floor is {floor_bytes}.",
		Hint:    "Free space, or lower the retention.",
	})
	ThrottlingQuotaExceeded = row(Fault{
		Reason: "THROTTLING_QUOTA_EXCEEDED", Code: codes.ResourceExhausted,
		HTTP: http.StatusTooManyRequests, ErrorCode: 42901, Retriable: true,
		Message: "Too many requests at once: the limit is {limit} of {setting}.",
		Hint:    "Retry after the time in Retry-After.",
	})
	TopicAlreadyExists = row(Fault{
		Reason: "TOPIC_ALREADY_EXISTS", Code: codes.AlreadyExists,
		HTTP: http.StatusConflict, ErrorCode: 40002,
		Message: "Topic '{topic}' already exists.",
		Hint:    "Use it, or choose another name.",
	})
	UnknownMemberID = row(Fault{
		Reason: "UNKNOWN_MEMBER_ID", Code: codes.NotFound,
		HTTP: http.StatusNotFound, ErrorCode: 40403,
		Message: "Group {group} has no member {member_id}.",
		Hint:    "It left, or was silent for its session timeout: join again.",
	})
	UnknownPartition = row(Fault{
		Reason: "UNKNOWN_TOPIC_OR_PARTITION", Variant: "partition", Code: codes.NotFound,
		HTTP: http.StatusNotFound, ErrorCode: 40402,
		Message: "Topic {topic} has no partition {partition}.",
		Hint:    "GET /v1/topics/{topic} lists the partitions, counted from 0.",
	})
	UnknownProducerID = row(Fault{
		Reason: "UNKNOWN_PRODUCER_ID", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: 409,
		Message: "Nothing is known of producer {producer_id}, and its sequence is not 0.",
		Hint:    "Bump the epoch or ask for a new producer id, and start at sequence 0.",
	})
	UnknownServerError = row(Fault{
		Reason: "UNKNOWN_SERVER_ERROR", Code: codes.Internal,
		HTTP: http.StatusInternalServerError, ErrorCode: 50002,
		Message: "The server met an unexpected error.",
		Hint:    "The node's log has it under the request id.",
	})
	UnknownTopicOrPartition = row(Fault{
		Reason: "UNKNOWN_TOPIC_OR_PARTITION", Code: codes.NotFound,
		HTTP: http.StatusNotFound, ErrorCode: 40401,
		Message: "Topic {topic} not found.",
		Hint:    "Create it first, or check its name.",
	})
	Unprocessable = row(Fault{
		Reason: "INVALID_PAYLOAD", Code: codes.InvalidArgument,
		HTTP: http.StatusUnprocessableEntity, ErrorCode: http.StatusUnprocessableEntity,
		Message: "The request is well-formed but not valid.",
		Hint:    "The message names the field and what would be right.",
	})
	UnreleasedInstanceID = row(Fault{
		Reason: "UNRELEASED_INSTANCE_ID", Code: codes.FailedPrecondition,
		HTTP: http.StatusConflict, ErrorCode: 409,
		Message: "Another member of group {group} has the instance id {instance_id}.",
		Hint:    "Stop it, or wait until it has been silent for its session timeout.",
	})
	UnsupportedAssignor = row(Fault{
		Reason: "UNSUPPORTED_ASSIGNOR", Code: codes.InvalidArgument,
		HTTP: http.StatusBadRequest, ErrorCode: 40002,
		Message: "There is no assignor {assignor}.",
		Hint:    "Use one of those in group.consumer.assignors, such as uniform or range.",
	})
	UnsupportedOperation = row(Fault{
		Reason: "UNSUPPORTED_VERSION", Code: codes.Unimplemented,
		HTTP: http.StatusNotImplemented, ErrorCode: http.StatusNotImplemented,
		Message: "The operation is not supported.",
		Hint:    "Check the version of the node.",
	})
)

var (
	rows     []*Fault
	byReason = map[string]*Fault{}
	variants = map[string]*Fault{}
)

// row adds a row to the catalogue. Two rows of one reason and variant are a bug.
func row(f Fault) *Fault {
	added := &f
	index := byReason
	if f.Variant != "" {
		index = variants
	}
	if index[f.Reason] != nil {
		panic("fault: two rows for " + f.Reason)
	}
	index[f.Reason] = added
	at, _ := slices.BinarySearchFunc(rows, added, func(a, b *Fault) int {
		return strings.Compare(a.Reason+a.Variant, b.Reason+b.Variant)
	})
	rows = slices.Insert(rows, at, added)
	return added
}
