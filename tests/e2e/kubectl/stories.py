"""What people type into kubectl, and what they shall see: stories for any kubectl that knows these commands.

Each story is a list of command lines with what their output must hold (a regular expression, on either output); the
numbers at the end are exit codes where 0 is not expected. `FILES` are what they find in their directory.
"""

from __future__ import annotations

from tests.kit.kubectl import Story

WEB = """
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ReplicationController
  metadata: {name: web, labels: {app: web}}
  spec:
    replicas: 2
    selector: {app: web}
    template:
      metadata: {labels: {app: web}}
      spec:
        containers:
        - {name: main, command: [sh, -c, "echo ready; exec sleep 1000"], env: [{name: A, value: "1"}]}
- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: lone, labels: {app: lone}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, command: [sh, -c, "echo one; echo two; exec sleep 1000"]}
  - {name: side, command: [sh, -c, "echo aside; exec sleep 1000"]}
"""
STATUS = """'{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}'"""
ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: r, namespace: default}
rules: []
"""
SVC_PATCH = """-n life patch svc web -p '{"spec":{"selector":{"app":"web"}}}'"""

STORIES: dict[str, Story] = {
    "the cluster": [
        ("version", r"Server Version: v1\.\d+\.\d+\+podium"),
        ("cluster-info", r"Kubernetes control plane\S* is running at \S*https://127\.\d+\.0\.251:6443"),
        ("get --raw /healthz", r"^ok$"),
        ("get --raw /readyz", r"^ok$"),
        ("get --raw /version", r'"gitVersion"'),
        ("api-versions", r"^policy/v1$"),
        ("api-resources", r"^poddisruptionbudgets +pdb +policy/v1 +true +PodDisruptionBudget"),
        ("api-resources --namespaced=false -o name", r"^nodes$"),
        ("auth can-i delete nodes", r"^yes$"),
        ("auth can-i create deployments.apps", r"^no", 1),
        ("auth can-i --list", r"^pods +\[\] +\[\] +\[create delete"),
        ("auth whoami", r"^Username +admin$"),
        ("get pods --as=bob", r"Forbidden.*cannot impersonate", 1),
        ("auth reconcile -f role.yaml", r"could not find the requested resource", 1),
        ("certificate approve x", r"the server doesn't have a resource type \"certificatesigningrequests\"", 1),
        ("config view -o jsonpath={.current-context}", r"^podium-"),
        ("get --raw /api/v1/namespaces/default", r'^\{"apiVersion":"v1","kind":"Namespace"'),
        ("get --raw /nothing", r"could not find the requested resource|page not found", 1),
        ("get nothing", r"the server doesn't have a resource type \"nothing\"", 1),
    ],
    "nodes": [
        ("get nodes", r"^NAME +STATUS +ROLES +AGE +VERSION\s+node-1 +Ready"),
        (
            "get nodes -o wide",
            (
                r"INTERNAL-IP +EXTERNAL-IP +OS-IMAGE +KERNEL-VERSION +CONTAINER-RUNTIME\n"
                r"node-1 +Ready +<none> +\w+ +podium-\S+ +127\.\S+ +<none> .+ process://\S+$"
            ),
        ),
        ("get node node-1 -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}'", r"^True$"),
        ("describe node node-1", r"(?s)Name: +node-1.*Capacity:.*cpu:.*Non-terminated Pods:"),
        ("label node node-1 disk=ssd", r"node/node-1 labeled"),
        ("get nodes -l disk=ssd -o name", r"^node/node-1\n\Z"),
        ("label node node-1 disk-", r"node/node-1 unlabeled"),
        ("taint node node-2 k=v:NoSchedule", r"node/node-2 tainted"),
        ("get node node-2 -o jsonpath={.spec.taints[0].effect}", r"^NoSchedule$"),
        ("taint node node-2 k=w:NoSchedule --overwrite", r"node/node-2 modified"),
        ("taint node node-2 k-", r"node/node-2 untainted"),
        ("cordon node-2", r"node/node-2 cordoned"),
        ("get node node-2", r"Ready,SchedulingDisabled"),
        ("uncordon node-2", r"node/node-2 uncordoned"),
        ("top nodes", r"^node-1 +\d+m"),
        ("explain node.spec.taints", r"(?s)KIND: +Node.*effect\s+<string>"),
    ],
    "a life of an application": [
        ("create namespace life", r"namespace/life created"),
        ("-n life apply -f web.yaml", r"replicationcontroller/web created\s+service/web created"),
        ("-n life apply -f web.yaml", r"replicationcontroller/web unchanged\s+service/web unchanged"),
        ("-n life diff -f web.yaml", r"\A\Z"),
        ("-n life wait --for=condition=Ready pod -l app=web --timeout=20s", r"condition met"),
        ("-n life get rc web", r"(?m)^web +2 +2 +2 +\d+s"),
        ("-n life get rc web -o wide", r"CONTAINERS +IMAGES +SELECTOR\s.*main.*app=web"),
        ("-n life get all", r"(?s)pod/web-.*replicationcontroller/web.*service/web"),
        ("-n life get pods --show-labels", r"app=web"),
        ("-n life get pods -L app", r"APP\s.*web"),
        ("-n life get pods -o wide", r"IP +NODE +NOMINATED NODE +READINESS GATES"),
        ("-n life get pods -o custom-columns=P:.status.phase", r"^P\nRunning\nRunning"),
        ("-n life get pods --sort-by=.metadata.creationTimestamp -o name", r"^pod/web-"),
        ("get pods -A", r"^NAMESPACE +NAME"),
        ("-n life get svc,ep", r"(?s)service/web +ClusterIP.*endpoints/web"),
        ("-n life describe rc web", r"(?s)Replicas: +2 current / 2 desired.*SuccessfulCreate"),
        ("-n life describe svc web", r"(?s)Selector: +app=web.*Port: +http +80/TCP.*TargetPort: +8080/TCP"),
        ("-n life top pods", r"^web-\S+ +\d+m +\d+Mi"),
        (
            "-n life get endpointslices",
            r"^NAME +ADDRESSTYPE +PORTS +ENDPOINTS +AGE\nweb-0 +IPv4 +8080 +127\.\S+,127\.\S+",
        ),
        ("-n life get endpointslices --field-selector metadata.name=web-1", r"\ANo resources found"),
        ("-n life get pods.metrics.k8s.io", r"^NAME +CPU +MEMORY +WINDOW\nweb-\S+ +\d+n +\d+Ki +"),
        (
            "-n life describe pods -l app=web",
            r"(?s)Name: +web-.*Status: +Running.*Controlled By: +ReplicationController/web",
        ),
        (
            "-n life diff -f web3.yaml",
            (
                r"(?s)\n-  generation: 1\n\+  generation: 2\n(?!.*\n[-+]  (?:actor|resourceVersion|  reason))"
                r".*\n-  replicas: 2\n\+  replicas: 3\n"
            ),
            1,
        ),
        ("-n life scale rc web --replicas=3", r"replicationcontroller/web scaled"),
        ("-n life scale rc web --current-replicas=1 --replicas=5", r"Expected replicas to be 1, was 3", 1),
        ("-n life scale rc web --current-replicas=3 --replicas=1", r"replicationcontroller/web scaled"),
        ("-n life wait --for=jsonpath={.status.replicas}=1 rc/web --timeout=20s", r"condition met"),
        ("-n life label rc web tier=front", r"replicationcontroller/web labeled"),
        ("-n life label rc web tier=back", r"already has a value \(front\)", 1),
        ("-n life label rc web tier=back --overwrite", r"replicationcontroller/web labeled"),
        ("-n life annotate rc web note=hello", r"replicationcontroller/web annotated"),
        ("-n life annotate rc web note-", r"replicationcontroller/web annotated"),
        ("-n life set env rc/web B=2", r"replicationcontroller/web env updated"),
        ("-n life set env rc/web --list", r"(?s)A=1.*B=2"),
        ("-n life set resources rc/web --limits=memory=64Mi", r"resource requirements updated"),
        ("-n life set selector svc/web app=other", r"service/web selector updated"),
        (SVC_PATCH, r"service/web patched"),
        (SVC_PATCH, r"service/web patched \(no change\)"),
        (
            '-n life patch rc web --type=json -p \'[{"op":"test","path":"/spec/replicas","value":7}]\'',
            r"The request is invalid: the patch does not apply: a test failed: 1 ",
            1,
        ),
        (
            '-n life patch rc web --type=json -p \'[{"op":"replace","path":"/spec/replicas","value":2}]\'',
            r"replicationcontroller/web patched",
        ),
        ('-n life patch rc web --type=merge -p \'{"spec":{"replicas":1}}\'', r"replicationcontroller/web patched"),
        ('-n life patch rc web --subresource=status --type=merge -p \'{"status":{"replicas":1}}\'', r"web patched"),
        ("-n life expose rc web --port=90 --name=web2", r"service/web2 exposed"),
        ("-n life get svc web2 -o jsonpath={.spec.ports[0].port}", r"^90$"),
        ("-n life apply view-last-applied rc web", r"replicas: 2"),
        ("-n life replace -f web.yaml", r"(?s)replicationcontroller/web replaced.*service/web replaced"),
        ("-n life apply -f web.yaml --dry-run=server", r"\(server dry run\)"),
        ("-n life rollout restart rc/web", r"(?i)not supported", 1),
        ("-n life rollout status rc/web", r"no status viewer has been implemented for ReplicationController", 1),
        ("-n life set image rc/web main=host", r"replicationcontroller/web image updated"),
        ("-n life set image rc/web nope=host", r'unable to find container named "nope"', 1),
        ("-n life set serviceaccount rc/web robot", r"(?s)Warning: .*not carry out.*serviceaccount updated"),
        ("-n life get rc web -o jsonpath={.spec.template.spec.serviceAccountName}", r"\Arobot\Z"),
        ("-n life apply set-last-applied --create-annotation -f web.yaml", r"replicationcontroller/web configured"),
        ("-n life exec rc/web -- echo by its controller", r"\Aby its controller\n\Z"),
        ("-n life logs rc/web", r"(?s)\A.*ready\n"),
        ("-n life logs -l app=web --prefix --tail=1", r"^\[pod/web-\S+/main\] ready$"),
        ("-n life autoscale rc web --max=3", r"(?i)^error[: ]", 1),
        ("-n life get events --field-selector involvedObject.name=web", r"SuccessfulCreate"),
        ("-n life events", r"^LAST SEEN +TYPE +REASON +OBJECT +MESSAGE"),
        (
            "-n life events --for rc/web --types=Normal",
            r"SuccessfulCreate +ReplicationController/web +Created pod: web-",
        ),
        ("-n life events --for rc/nope", r"\ANo events found in life namespace\.$"),
        ("-n life delete rc web --cascade=orphan", r'replicationcontroller "web" deleted'),
        ("-n life get pods -l app=web -o name", r"^pod/web-"),
        ("-n life delete pods -l app=web --now", r'pod "web-[a-z0-9]+" deleted'),
        ("-n life delete -f web.yaml --ignore-not-found", r'service "web" deleted'),
        ("-n life delete svc --all", r'service "web2" deleted'),
        ("delete namespace life --timeout=30s", r'namespace "life" deleted'),
        ("get namespace life", r'namespaces "life" not found', 1),
    ],
    "pods": [
        ("create -f pod.yaml", r"pod/lone created"),
        ("create -f pod.yaml", r'\(AlreadyExists\).*pods "lone" already exists', 1),
        ("wait --for=condition=Ready pod/lone --timeout=20s", r"pod/lone condition met"),
        ("logs lone -c main", r"\Aone\ntwo\n\Z"),
        ("logs lone", r"Defaulted container \"main\" out of: main, side"),
        ("logs lone --all-containers --prefix", r"(?s)\A(?=.*\[pod/lone/main\] one)(?=.*\[pod/lone/side\] aside)"),
        ("logs lone -c main --tail=1 --timestamps", r"^20\d\d-\d\d-\d\dT[\d:.]+Z two$"),
        ("logs lone -c main --limit-bytes=2", r"\Aon\Z"),
        ("logs lone -c nope", r"container nope is not valid for pod lone", 1),
        ("logs nope", r'pods "nope" not found', 1),
        ("exec lone -c main -- echo hello", r"^hello$"),
        ("exec lone -c side -- sh -c 'echo oops >&2; exit 3'", r"(?s)oops.*exit code 3", 3),
        ("exec lone -c main -- nonexistent-program", r".", 127),
        ("exec nope -- ls", r'pods "nope" not found', 1),
        ("debug lone --image=host -- ls", r"ephemeral containers are disabled .*kubectl debug --copy-to", 1),
        ("get pod lone -o yaml", r"(?s)^apiVersion: v1\nkind: Pod\n.*phase: Running"),
        ("get pod lone -o name", r"^pod/lone$"),
        ("get pods --field-selector=status.phase=Running -o name", r"^pod/lone$"),
        ("get pods --field-selector=status.phase!=Running -o name", r"\A\Z"),
        ("get pods --field-selector=spec.nope=1", r"BadRequest", 1),
        ("get pods -l 'app in (lone,web),!nope' -o name", r"^pod/lone$"),
        ("get pods -l ==", r"(?i)unable to parse|BadRequest|found '=='", 1),
        ("get pod nope", r'pods "nope" not found', 1),
        ("get pod nope --ignore-not-found", r"\A\Z"),
        ("describe pod lone", r"(?s)Name: +lone.*Containers:.*main:.*side:.*Conditions:.*Ready +True"),
        ("explain pod.spec.containers.env", r"(?s)KIND: +Pod.*FIELD: env <\[\]EnvVar>.*name\s+<string>"),
        ("explain pod --recursive", r"(?s)containers\s+<\[\]Container>.*readinessProbe\s+<Probe>"),
        ("delete pod lone --timeout=20s", r'pod "lone" deleted'),
        ("run one --image=x --command --dry-run=client -o yaml -- sleep 9", r"kind: Pod"),
        ("run done --image=host --restart=Never --attach --rm --command -- sh -c 'echo out; exit 4'", r"^out$", 4),
        ("run done --image=host --restart=Never --command -- sh -c 'exit 4'", r"pod/done created"),
        ("wait --for=jsonpath={.status.phase}=Failed pod/done --timeout=20s", r"pod/done condition met"),
        ("get pod done", r"^done +0/1 +Error +0 +\d+s"),
        ("get pods --field-selector=status.phase=Failed -o name", r"\Apod/done\n\Z"),
        ("delete pod done", r'pod "done" deleted'),
        ("run again --image=host --command -- sh -c 'echo once; exit 1'", r"pod/again created"),
        (
            "wait --for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff pod/again",
            r"pod/again condition met",
        ),
        ("logs -f again", r"\Aonce\n\Z"),
        ("delete pod again --now", r'pod "again" deleted'),
        ("run one --image=x --labels=a=b -- sleep 9", r"pod/one created"),
        ("get pod one", r"one +0/1 +Pending"),
        ("delete pod one --grace-period=0 --force", r'pod "one" force deleted'),
    ],
    "configuration": [
        (
            "create configmap c --from-literal=a=b --from-literal=c=d --dry-run=server -o yaml",
            r"(?s)\A(?!.*resourceVersion).*kind: ConfigMap.*name: c\n",
        ),
        ("get configmap c", r'configmaps "c" not found', 1),
        ("create configmap c --from-literal=a=b --from-literal=c=d", r"configmap/c created"),
        ("annotate configmap c x=dry --dry-run=server", r"configmap/c annotated \(server dry run\)"),
        ("annotate configmap c x=real -o jsonpath={.metadata.annotations.x}", r"\Areal\Z"),
        ("get configmap c", r"^c +2 +\d+s"),
        ("get cm c -o jsonpath={.data.a}", r"^b$"),
        ("describe cm c", r"(?s)Name: +c.*a:\n----\nb"),
        ("create secret generic s --from-literal=password=hunter2", r"secret/s created"),
        ("get secret s", r"^s +Opaque +1 +\d+s"),
        ("get secret s -o jsonpath={.data.password}", r"^aHVudGVyMg==$"),
        ("describe secret s", r"password: +7 bytes"),
        ("create secret generic s --from-literal=a=b", r"already exists", 1),
        ("create pdb b --selector=app=web --min-available=1", r"poddisruptionbudget.policy/b created"),
        ("get pdb", r"^b +1 +N/A +0 +\d+s"),
        ("describe pdb b", r"Min available: +1"),
        ("create priorityclass high --value=1000", r"priorityclass.scheduling.k8s.io/high created"),
        ("get pc high", r"^high +1000 +false"),
        ("describe pc high", r"Value: +1000"),
        ("create service clusterip plain --tcp=80:8080", r"service/plain created"),
        ("get svc plain -o jsonpath={.spec.ports[0].targetPort}", r"^8080$"),
        ("apply --prune -l pruned=yes --prune-allowlist=core/v1/ConfigMap -f two.yaml", r"configmap/two created"),
        ("apply --prune -l pruned=yes --prune-allowlist=core/v1/ConfigMap -f one.yaml", r"configmap/two pruned"),
        ("delete cm one", r"deleted"),
        (f"patch svc plain --subresource=status --type=merge -p {STATUS}", r"Warning: status.loadBalancer"),
        ("get svc plain -o jsonpath={.status.loadBalancer.ingress[0].ip}", r"\A192.0.2.1\Z"),
        ("delete cm/c secret/s pdb/b pc/high svc/plain", r'(?s)configmap "c" deleted.*service "plain" deleted'),
        (
            "create serviceaccount robot",
            r"(?s)Warning: a service account is kept for Kubernetes' tools.*serviceaccount/robot created",
        ),
        ("get sa robot", r"^robot +0 +\d+s"),
        ("describe sa robot", r"Name: +robot"),
        ("delete sa robot", r"deleted"),
        ("get leases -A", r"NAME|No resources found"),
        ("create configmap bad_name --from-literal=a=b", r"is invalid|Invalid value", 1),
    ],
    "applied by the server": [
        ("apply --server-side -f mine.yaml", r"configmap/shared serverside-applied"),
        ("apply --server-side -f mine.yaml", r"configmap/shared serverside-applied"),
        ("apply --server-side --field-manager=other -f theirs.yaml", r'conflict with "kubectl": .data.a', 1),
        ("apply --server-side --field-manager=other -f theirs.yaml --force-conflicts", r"serverside-applied"),
        ("get cm shared -o jsonpath={.data}", r'\{"a":"theirs","b":"mine","c":"theirs"\}'),
        ("get cm shared -o yaml --show-managed-fields", r"(?s)manager: kubectl.*manager: other|manager: other"),
        ("apply --server-side -f mine.yaml", r'conflict with "other": .data.a', 1),
        ("diff --server-side --force-conflicts -f mine.yaml", r"a: mine", 1),
        ("apply --server-side --dry-run=server --force-conflicts -f mine.yaml", r"\(server dry run\)"),
        ("get cm shared -o jsonpath={.data.a}", r"^theirs$"),
        ("label cm shared x=y", r"configmap/shared labeled"),
        ("delete cm shared", r"deleted"),
    ],
    "what is wrong is said": [
        ("apply -f unknown.yaml", r'strict decoding error: unknown field "spec.contaners"', 1),
        ("apply -f unknown.yaml --validate=warn", r'(?s)Warning: unknown field "spec.contaners".*pod/typo created'),
        ("delete pod typo --now", r"deleted"),
        ("apply -f extra.yaml", r"(?s)Warning: spec.hostNetwork: is a field.*not carry out.*pod/extra created"),
        ("get pod extra -o jsonpath={.spec.hostNetwork}", r"^true$"),
        ("apply -f extra.yaml", r"pod/extra unchanged"),
        ("delete pod extra --now", r"deleted"),
        ("apply -f invalid.yaml", r"The Pod \"bad\" is invalid: spec.restartPolicy", 1),
        ("create deployment d --image=x", r"could not find the requested resource", 1),
        ("apply -f broken.yaml", r"error parsing broken.yaml|error converting YAML", 1),
        (
            """patch ns default --type=merge -p '{"metadata":{"finalizers":["hold"]}}'""",
            r'The Namespace "default" is invalid: metadata.finalizers\[0\].*nor is it fully qualified',
            1,
        ),
        ("delete node nope", r'nodes "nope" not found', 1),
        ("-n nowhere create configmap c --from-literal=a=b", r'namespaces "nowhere" not found', 1),
    ],
}
FILES = {
    "web.yaml": WEB,
    "pod.yaml": POD,
    "unknown.yaml": POD.replace("name: lone,", "name: typo,").replace("spec:", "spec:\n  contaners: []", 1),
    "extra.yaml": POD.replace("name: lone,", "name: extra,").replace("spec:", "spec:\n  hostNetwork: true", 1),
    "invalid.yaml": POD.replace("name: lone,", "name: bad,").replace("spec:", "spec:\n  restartPolicy: Sometimes", 1),
    "broken.yaml": "a: b: c",
    "web3.yaml": WEB.replace("replicas: 2", "replicas: 3"),
    "role.yaml": ROLE,
    "one.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one, labels: {pruned: 'yes'}}\n",
    "two.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two, labels: {pruned: 'yes'}}\n",
    # What begins with a brace, kubectl before 1.33 takes for JSON.
    "mine.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {a: mine, b: mine}\n",
    "theirs.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {a: theirs, c: theirs}\n",
}
