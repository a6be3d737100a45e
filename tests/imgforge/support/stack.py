"""Makes and changes stacks of templates/cloudformation/site.yaml on a moto server, as the AWS CLI would.

    stack.py ENDPOINT REGION create NAME PARAMETER=VALUE…   the stack, from the template
    stack.py ENDPOINT REGION change NAME PARAMETER=VALUE…   a change set; a parameter without = keeps its value, and one that
                                                            is not named at all takes its default, as on AWS
The answer is JSON on stdout. The template goes to moto as it is but for what moto does not know, all of it named here.
"""

import ipaddress
import json
import pathlib
import sys

import boto3
from cfnlint.decode.cfn_yaml import load

TEMPLATE = pathlib.Path(__file__).parents[3] / "templates/cloudformation/site.yaml"
# Types that moto's CloudFormation makes nothing of (moto 5.2.5). They are left out, with what refers to them. Bucket policies are
# put into place afterwards, from the template's own text.
UNKNOWN = {
    "AWS::AmazonMQ::Broker",
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::CloudWatch::Alarm",
    "AWS::ECS::CapacityProvider",
    "AWS::ECS::ClusterCapacityProviderAssociations",
    "AWS::ElastiCache::CacheCluster",
    "AWS::ElastiCache::SubnetGroup",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SecretsManager::Secret",
}
GONE = object()


def plain(node):
    """The template as JSON has it."""
    if isinstance(node, dict):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    return str(node) if isinstance(node, str) else node


def names(node):
    """The logical names that a node refers to."""
    if isinstance(node, list):
        return set().union(*map(names, node))
    if not isinstance(node, dict):
        return set()
    if "Ref" in node:
        return {node["Ref"]}
    if "Fn::GetAtt" in node:
        return {node["Fn::GetAtt"][0]}
    if "Fn::Sub" in node:
        text = node["Fn::Sub"] if isinstance(node["Fn::Sub"], str) else node["Fn::Sub"][0]
        found = {part.split("}")[0].split(".")[0] for part in text.split("${")[1:]}
        return found | names(node["Fn::Sub"] if isinstance(node["Fn::Sub"], list) else [])
    return set().union(*map(names, node.values()), set())


def without(node, gone):
    """The node without the values that refer to what is gone."""
    if isinstance(node, dict):
        if len(node) == 1 and next(iter(node)).startswith(("Ref", "Fn::")) and "Fn::If" not in node:
            return GONE if names(node) & gone else node
        kept = {key: without(value, gone) for key, value in node.items()}
        return {key: value for key, value in kept.items() if value is not GONE}
    if isinstance(node, list):
        # A branch of a Fn::If stays where it is.
        return [{"Ref": "AWS::NoValue"} if value is GONE else value for value in (without(part, gone) for part in node)]
    return node


def evaluated(node, parameters, region):
    """Without Fn::Cidr and Fn::GetAZs: moto has no Fn::Cidr, and its Fn::GetAZs does not read its argument."""
    if isinstance(node, list):
        return [evaluated(value, parameters, region) for value in node]
    if not isinstance(node, dict):
        return node
    if "Fn::GetAZs" in node:
        return [f"{region}a", f"{region}b"]
    if "Fn::Cidr" in node:
        whole, count, bits = node["Fn::Cidr"]
        blocks = ipaddress.ip_network(parameters[whole["Ref"]]).subnets(new_prefix=32 - int(bits))
        return [str(next(blocks)) for _ in range(int(count))]
    return {key: evaluated(value, parameters, region) for key, value in node.items()}


def for_moto(template, given, region):
    parameters = {key: value.get("Default") for key, value in template["Parameters"].items()} | given
    template = evaluated(template, parameters, region)
    resources = template["Resources"]
    gone = {name for name, resource in resources.items() if resource["Type"] in UNKNOWN}
    assert {resources[name]["Type"] for name in gone} == UNKNOWN, "the list of what moto does not know is too long"
    kept = {}
    for name, resource in resources.items():
        if name in gone:
            continue
        after = resource.get("DependsOn", [])
        after = [other for other in ([after] if isinstance(after, str) else after) if other not in gone]
        kept[name] = {**resource, "DependsOn": after, "Properties": without(resource.get("Properties", {}), gone)}
    template["Resources"] = kept
    template["Outputs"] = {key: value for key, value in template["Outputs"].items() if not names(value) & gone}
    return template


def resolved(node, known):
    """A policy with what its intrinsic functions stand for."""
    if isinstance(node, list):
        return [resolved(value, known) for value in node]
    if not isinstance(node, dict):
        return node
    if "Ref" in node:
        return known[node["Ref"]]
    if "Fn::GetAtt" in node:
        return known[".".join(node["Fn::GetAtt"])]
    if "Fn::Sub" in node:
        text = node["Fn::Sub"]
        for name, value in known.items():
            text = text.replace("${" + name + "}", value)
        assert "${" not in text, text
        return text
    return {key: resolved(value, known) for key, value in node.items()}


def main(endpoint, region, verb, stack, *arguments):
    client = lambda service: boto3.client(
        service, endpoint_url=endpoint, region_name=region, aws_access_key_id="test", aws_secret_access_key="test"
    )
    cloudformation = client("cloudformation")
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]
    changes = []
    template = plain(load(str(TEMPLATE)))
    if verb == "create":
        body = json.dumps(for_moto(template, given, region))
        cloudformation.create_stack(
            StackName=stack, TemplateBody=body, Parameters=parameters, Capabilities=["CAPABILITY_IAM"]
        )
    else:
        body = cloudformation.get_template(StackName=stack)["TemplateBody"]
        parameters += [{"ParameterKey": key, "UsePreviousValue": True} for key in arguments if "=" not in key]
        made = cloudformation.create_change_set(
            StackName=stack,
            ChangeSetName="update",
            TemplateBody=body if isinstance(body, str) else json.dumps(body),
            Parameters=parameters,
            Capabilities=["CAPABILITY_IAM"],
        )
        described = cloudformation.describe_change_set(ChangeSetName=made["Id"])
        changes = [change["ResourceChange"] for change in described["Changes"]]
        cloudformation.execute_change_set(ChangeSetName=made["Id"])
    [described] = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    listed = cloudformation.list_stack_resources(StackName=stack)["StackResourceSummaries"]
    physical = {entry["LogicalResourceId"]: entry["PhysicalResourceId"] for entry in listed}
    known = dict(physical)
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::S3::Bucket" and name in physical:
            known[f"{name}.Arn"] = f"arn:aws:s3:::{physical[name]}"
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::S3::BucketPolicy" and resource["Properties"]["Bucket"]["Ref"] in physical:
            policy = json.dumps(resolved(resource["Properties"]["PolicyDocument"], known))
            bucket = physical[resource["Properties"]["Bucket"]["Ref"]]
            client("s3").put_bucket_policy(Bucket=bucket, Policy=policy)
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    answer = {"status": described["StackStatus"], "resources": physical, "outputs": outputs, "changes": changes}
    print(json.dumps(answer))


main(*sys.argv[1:])
