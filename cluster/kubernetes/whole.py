"""Kubernetes' messages with all of their fields: for bodies and answers in protobuf.

The messages of `core.proto` leave out what Podium does not carry out. In JSON such fields are put aside with the object
(`cluster.api.aside`) and shown again; in protobuf they are known by their numbers alone, so here those messages are
built once more, with the fields that are missing. Names, numbers and types are Kubernetes':

    whole("Pod")                                     a class of messages like core.Pod, whose spec has hostNetwork too

Fields of volumes that Kubernetes itself has given up (gcePersistentDisk, flocker ...) are not among them, nor some that
are the newest (fileKeyRef, schedulingGroup ...): those are known in JSON only. Pure.
"""

from __future__ import annotations

from functools import cache

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import Message

from cluster.pb.v1 import core_pb2 as core
from cluster.pb.v1 import options_pb2

_FIELDS = {
    "ObjectMeta": "4 selfLink string; 15 clusterName string",
    "Lifecycle": "3 stopSignal string",
    "VolumeMount": "5 mountPropagation string; 6 subPathExpr string; 7 recursiveReadOnly string",
    "Capabilities": "1 add repeated string",
    "SecurityContext": (
        "3 seLinuxOptions SELinuxOptions; 9 procMount string; 10 windowsOptions WindowsSecurityContextOptions; "
        "11 seccompProfile SeccompProfile; 12 appArmorProfile AppArmorProfile"
    ),
    "PodSecurityContext": (
        "1 seLinuxOptions SELinuxOptions; 4 supplementalGroups repeated int64; 5 fsGroup int64; "
        "7 sysctls repeated Sysctl; 8 windowsOptions WindowsSecurityContextOptions; 9 fsGroupChangePolicy string; "
        "10 seccompProfile SeccompProfile; 11 appArmorProfile AppArmorProfile; 12 supplementalGroupsPolicy string; "
        "13 seLinuxChangePolicy string"
    ),
    "Container": (
        "14 imagePullPolicy string; 21 volumeDevices repeated VolumeDevice; "
        "23 resizePolicy repeated ContainerResizePolicy; 25 restartPolicyRules repeated ContainerRestartRule"
    ),
    "VolumeSource": (
        "7 nfs NFSVolumeSource; 10 persistentVolumeClaim PersistentVolumeClaimVolumeSource; "
        "26 projected ProjectedVolumeSource; 28 csi CSIVolumeSource; 29 ephemeral EphemeralVolumeSource; "
        "30 image ImageVolumeSource"
    ),
    "PodAffinityTerm": "5 matchLabelKeys repeated string; 6 mismatchLabelKeys repeated string",
    "TopologySpreadConstraint": "8 matchLabelKeys repeated string",
    "PodSpec": (
        "8 serviceAccountName string; 9 serviceAccount string; 11 hostNetwork bool; 12 hostPID bool; 13 hostIPC bool; "
        "15 imagePullSecrets repeated LocalObjectReference; 21 automountServiceAccountToken bool; "
        "23 hostAliases repeated HostAlias; 27 shareProcessNamespace bool; "
        "28 readinessGates repeated PodReadinessGate; 29 runtimeClassName string; 32 overhead map Quantity; "
        "34 ephemeralContainers repeated EphemeralContainer; 35 setHostnameAsFQDN bool; 36 os PodOS; "
        "37 hostUsers bool; 39 resourceClaims repeated PodResourceClaim; 40 resources ResourceRequirements; "
        "41 hostnameOverride string"
    ),
    "PodStatus": (
        "13 ephemeralContainerStatuses repeated ContainerStatus; 14 resize string; "
        "15 resourceClaimStatuses repeated PodResourceClaimStatus; 16 hostIPs repeated HostIP; "
        "17 observedGeneration int64; 19 allocatedResources map Quantity; 20 resources ResourceRequirements"
    ),
    "PodCondition": "7 observedGeneration int64",
    "ContainerStatus": (
        "10 allocatedResources map Quantity; 11 resources ResourceRequirements; "
        "12 volumeMounts repeated VolumeMountStatus; 13 user ContainerUser; 15 stopSignal string"
    ),
    "ResourceRequirements": "3 claims repeated ResourceClaim",
    "ServiceSpec": (
        "5 externalIPs repeated string; 8 loadBalancerIP string; 9 loadBalancerSourceRanges repeated string; "
        "11 externalTrafficPolicy string; 12 healthCheckNodePort int32; 16 topologyKeys repeated string; "
        "17 ipFamilyPolicy string; 18 clusterIPs repeated string; 19 ipFamilies repeated string; "
        "20 allocateLoadBalancerNodePorts bool; 21 loadBalancerClass string; 22 internalTrafficPolicy string"
    ),
    "ServiceStatus": "1 loadBalancer LoadBalancerStatus; 2 conditions repeated Condition",
    "NodeSpec": "2 externalID string; 3 providerID string; 6 configSource NodeConfigSource; 7 podCIDRs repeated string",
    "NodeStatus": (
        "3 phase string; 8 images repeated ContainerImage; 9 volumesInUse repeated string; "
        "10 volumesAttached repeated AttachedVolume; 11 config NodeConfigStatus"
    ),
    "NamespaceStatus": "2 conditions repeated NamespaceCondition",
    "LeaseSpec": "6 strategy string; 7 preferredHolder string",
    # And messages that Podium has nothing of.
    "AppArmorProfile": "1 type string; 2 localhostProfile string",
    "AttachedVolume": "1 name string; 2 devicePath string",
    "CSIVolumeSource": (
        "1 driver string; 2 readOnly bool; 3 fsType string; 4 volumeAttributes map string; "
        "5 nodePublishSecretRef LocalObjectReference"
    ),
    "ConfigMapNodeConfigSource": (
        "1 namespace string; 2 name string; 3 uid string; 4 resourceVersion string; 5 kubeletConfigKey string"
    ),
    "ConfigMapProjection": (
        "1 localObjectReference inline LocalObjectReference; 2 items repeated KeyToPath; 4 optional bool"
    ),
    "ContainerImage": "1 names repeated string; 2 sizeBytes int64",
    "ContainerResizePolicy": "1 resourceName string; 2 restartPolicy string",
    "ContainerRestartRule": "1 action string; 2 exitCodes ContainerRestartRuleOnExitCodes",
    "ContainerRestartRuleOnExitCodes": "1 operator string; 2 values repeated int32",
    "ContainerUser": "1 linux LinuxContainerUser",
    "DownwardAPIProjection": "1 items repeated DownwardAPIVolumeFile",
    "EphemeralContainer": "1 ephemeralContainerCommon inline EphemeralContainerCommon; 2 targetContainerName string",
    "EphemeralContainerCommon": (
        "1 name string; 2 image string; 3 command repeated string; 4 args repeated string; 5 workingDir string; "
        "6 ports repeated ContainerPort; 7 env repeated EnvVar; 8 resources ResourceRequirements; "
        "9 volumeMounts repeated VolumeMount; 10 livenessProbe Probe; 11 readinessProbe Probe; "
        "12 lifecycle Lifecycle; 13 terminationMessagePath string; 14 imagePullPolicy string; "
        "15 securityContext SecurityContext; 16 stdin bool; 17 stdinOnce bool; 18 tty bool; "
        "19 envFrom repeated EnvFromSource; 20 terminationMessagePolicy string; "
        "21 volumeDevices repeated VolumeDevice; 22 startupProbe Probe; "
        "23 resizePolicy repeated ContainerResizePolicy; 24 restartPolicy string"
    ),
    "EphemeralVolumeSource": "1 volumeClaimTemplate PersistentVolumeClaimTemplate",
    "HostAlias": "1 ip string; 2 hostnames repeated string",
    "HostIP": "1 ip string",
    "ImageVolumeSource": "1 reference string; 2 pullPolicy string",
    "LinuxContainerUser": "1 uid int64; 2 gid int64; 3 supplementalGroups repeated int64",
    "LoadBalancerIngress": "1 ip string; 2 hostname string; 3 ipMode string; 4 ports repeated PortStatus",
    "LoadBalancerStatus": "1 ingress repeated LoadBalancerIngress",
    "NFSVolumeSource": "1 server string; 2 path string; 3 readOnly bool",
    "NamespaceCondition": (
        "1 type string; 2 status string; 4 lastTransitionTime Time; 5 reason string; 6 message string"
    ),
    "NodeConfigSource": "2 configMap ConfigMapNodeConfigSource",
    "NodeConfigStatus": (
        "1 assigned NodeConfigSource; 2 active NodeConfigSource; 3 lastKnownGood NodeConfigSource; 4 error string"
    ),
    "PersistentVolumeClaimSpec": (
        "1 accessModes repeated string; 2 resources ResourceRequirements; 3 volumeName string; "
        "4 selector LabelSelector; 5 storageClassName string; 6 volumeMode string; "
        "7 dataSource TypedLocalObjectReference; 8 dataSourceRef TypedObjectReference; "
        "9 volumeAttributesClassName string"
    ),
    "PersistentVolumeClaimTemplate": "1 metadata ObjectMeta; 2 spec PersistentVolumeClaimSpec",
    "PersistentVolumeClaimVolumeSource": "1 claimName string; 2 readOnly bool",
    "PodOS": "1 name string",
    "PodReadinessGate": "1 conditionType string",
    "PodResourceClaim": "1 name string; 3 resourceClaimName string; 4 resourceClaimTemplateName string",
    "PodResourceClaimStatus": "1 name string; 2 resourceClaimName string",
    "PortStatus": "1 port int32; 2 protocol string; 3 error string",
    "ProjectedVolumeSource": "1 sources repeated VolumeProjection; 2 defaultMode int32",
    "ResourceClaim": "1 name string; 2 request string",
    "SELinuxOptions": "1 user string; 2 role string; 3 type string; 4 level string",
    "SeccompProfile": "1 type string; 2 localhostProfile string",
    "SecretProjection": (
        "1 localObjectReference inline LocalObjectReference; 2 items repeated KeyToPath; 4 optional bool"
    ),
    "ServiceAccountTokenProjection": "1 audience string; 2 expirationSeconds int64; 3 path string",
    "Sysctl": "1 name string; 2 value string",
    "TypedLocalObjectReference": "1 apiGroup string; 2 kind string; 3 name string",
    "TypedObjectReference": "1 apiGroup string; 2 kind string; 3 name string; 4 namespace string",
    "VolumeDevice": "1 name string; 2 devicePath string",
    "VolumeMountStatus": "1 name string; 2 mountPath string; 3 readOnly bool; 4 recursiveReadOnly string",
    "VolumeProjection": (
        "1 secret SecretProjection; 2 downwardAPI DownwardAPIProjection; 3 configMap ConfigMapProjection; "
        "4 serviceAccountToken ServiceAccountTokenProjection"
    ),
    "WindowsSecurityContextOptions": (
        "1 gmsaCredentialSpecName string; 2 gmsaCredentialSpec string; 3 runAsUserName string; 4 hostProcess bool"
    ),
}
"""By message: number, name and type of the fields that it has besides. `map`: of texts to values of that type;
`inline`: its own fields stand, in JSON, among those around it."""

_TYPES = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
}


@cache
def whole(name: str) -> type[Message]:
    """The class of a message with all of its fields. Raises KeyError if Kubernetes' core has no such message here."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


_PACKAGE = core.DESCRIPTOR.package


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = FileDescriptorProto()
    core.DESCRIPTOR.CopyToProto(file)
    messages = {message.name: message for message in file.message_type}
    for name, fields in _FIELDS.items():
        message = messages.get(name) or file.message_type.add(name=name)
        del message.reserved_range[:]
        del message.reserved_name[:]
        for field in fields.split("; "):
            _add(message, *field.split(" "))
    pool = descriptor_pool.DescriptorPool()
    for known in (descriptor_pb2.DESCRIPTOR, options_pb2.DESCRIPTOR):
        pool.AddSerializedFile(known.serialized_pb)
    pool.Add(file)
    return pool


def _add(message: DescriptorProto, number: str, name: str, *kind: str) -> None:
    """`kind`: the type, maybe after a word that says more."""
    *more, value = kind
    field = message.field.add(name=name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
    if "repeated" in more or "map" in more:
        field.label = FieldDescriptorProto.LABEL_REPEATED
    if "inline" in more:
        field.options.Extensions[options_pb2.inline] = True  # type: ignore[index]
    if "map" in more:
        entry = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        _add(entry, "1", "key", "string")
        _add(entry, "2", "value", value)
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{message.name}.{entry.name}"
    elif value in _TYPES:
        field.type = _TYPES[value]
    else:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{value}"
