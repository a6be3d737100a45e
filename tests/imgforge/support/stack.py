"""Makes and changes stacks of templates/cloudformation/site.yaml on a moto server, as the AWS CLI would.

    stack.py ENDPOINT REGION create NAME PARAMETER=VALUE…   the stack, from the template
    stack.py ENDPOINT REGION change NAME PARAMETER=VALUE…   a change set; a parameter without = keeps its value, and one that
                                                            is not named at all takes its default, as on AWS
The answer is JSON on stdout. The template goes to moto as it is but for what moto does not know, all of it named here.
"""

import ast
import ipaddress
import json
import pathlib
import sys

import boto3
from cfnlint.decode.cfn_yaml import load

TEMPLATE = pathlib.Path(__file__).parents[3] / "templates/cloudformation/site.yaml"
# Types that moto's CloudFormation makes nothing of (moto 5.2.5). They are left out, with what refers to them. Bucket policies are
# told as the template has them: moto's S3 does not look at conditions, and so would deny everything for want of TLS.
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
# The account that moto plays.
ACCOUNT = "123456789012"


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
    """A part of the template with what its intrinsic functions stand for."""
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
            text = text.replace("${" + name + "}", str(value))
        assert "${" not in text, text
        return text
    return {key: resolved(value, known) for key, value in node.items()}


def known(template, physical, given, region):
    """What names in the template stand for."""
    parameters = {key: value.get("Default") for key, value in template["Parameters"].items()} | given
    names = {"AWS::AccountId": ACCOUNT, "AWS::Region": region, "AWS::URLSuffix": "amazonaws.com"} | parameters | physical
    for name, resource in template["Resources"].items():
        match resource["Type"]:
            case _ if name not in physical:
                pass
            case "AWS::S3::Bucket":
                names[f"{name}.Arn"] = f"arn:aws:s3:::{physical[name]}"
            case "AWS::IAM::Role":
                names[f"{name}.Arn"] = f"arn:aws:iam::{ACCOUNT}:role/{physical[name]}"
            case "AWS::ECR::Repository":
                names[f"{name}.RepositoryUri"] = f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com/{physical[name]}"
    return names


def camel(node):
    """The API's names of fields."""
    if isinstance(node, list):
        return [camel(value) for value in node]
    if isinstance(node, dict):
        return {key[0].lower() + key[1:]: camel(value) for key, value in node.items()}
    return node


def definition(resource, arn, names):
    """What DescribeTaskDefinition says of it on AWS. moto leaves out the roles, the tags and how long a stop may take."""
    fields = camel(resolved(resource["Properties"], names))
    tags = fields.pop("tags")
    fields |= {"taskDefinitionArn": arn, "revision": int(arn.rsplit(":")[-1]), "status": "ACTIVE"}
    return {"taskDefinition": fields, "tags": tags}


class Account:
    def __init__(self, endpoint, region):
        self.endpoint, self.region = endpoint, region
        self.cloudformation = self.client("cloudformation")

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def create(self, stack, template, given):
        body = json.dumps(for_moto(template, given, self.region))
        parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]
        self.cloudformation.create_stack(
            StackName=stack, TemplateBody=body, Parameters=parameters, Capabilities=["CAPABILITY_IAM"]
        )

    def change(self, stack, given, kept):
        parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]
        parameters += [{"ParameterKey": key, "UsePreviousValue": True} for key in kept]
        made = self.cloudformation.create_change_set(
            StackName=stack,
            ChangeSetName="update",
            ChangeSetType="UPDATE",
            UsePreviousTemplate=True,
            Parameters=parameters,
            Capabilities=["CAPABILITY_IAM"],
        )
        self.cloudformation.execute_change_set(ChangeSetName=made["Id"], StackName=stack)

    def finish_buckets(self, template, physical):
        """What moto's CloudFormation leaves out of buckets, by S3's own calls."""
        s3 = self.client("s3")
        for name, resource in template["Resources"].items():
            properties = resource.get("Properties", {})
            if resource["Type"] == "AWS::S3::Bucket" and name in physical:
                bucket = {"Bucket": physical[name]}
                block = properties["PublicAccessBlockConfiguration"]
                s3.put_bucket_versioning(**bucket, VersioningConfiguration=properties["VersioningConfiguration"])
                s3.put_public_access_block(**bucket, PublicAccessBlockConfiguration=block)

    def policies(self, template, physical, names):
        """The policies of the stack by logical name, those of IAM as it holds them."""
        iam = self.client("iam")
        found = {}
        for name, resource in template["Resources"].items():
            if resource["Type"] == "AWS::IAM::ManagedPolicy":
                version = iam.get_policy_version(PolicyArn=physical[name], VersionId="v1")
                found[name] = version["PolicyVersion"]["Document"]
            if resource["Type"] == "AWS::IAM::Role":
                listed = iam.list_role_policies(RoleName=physical[name])["PolicyNames"]
                role = {"RoleName": physical[name]}
                documents = [iam.get_role_policy(**role, PolicyName=policy)["PolicyDocument"] for policy in listed]
                # moto gives these back as Python writes them.
                documents = [ast.literal_eval(part) if isinstance(part, str) else part for part in documents]
                # And AWS::NoValue, which AWS takes out of a list, as nothing.
                statements = [part for document in documents for part in document["Statement"] if isinstance(part, dict)]
                found[name] = {"Statement": statements}
            if resource["Type"] == "AWS::S3::BucketPolicy" and resource["Properties"]["Bucket"]["Ref"] in physical:
                found[name] = resolved(resource["Properties"]["PolicyDocument"], names)
        return found


def main(endpoint, region, verb, stack, *arguments):
    account = Account(endpoint, region)
    template = plain(load(str(TEMPLATE)))
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if verb == "create":
        account.create(stack, template, given)
    else:
        account.change(stack, given, [argument for argument in arguments if "=" not in argument])
    [described] = account.cloudformation.describe_stacks(StackName=stack)["Stacks"]
    listed = account.cloudformation.list_stack_resources(StackName=stack)["StackResourceSummaries"]
    physical = {entry["LogicalResourceId"]: entry["PhysicalResourceId"] for entry in listed}
    given = {entry["ParameterKey"]: entry["ParameterValue"] for entry in described["Parameters"]}
    names = known(template, physical, given, region)
    account.finish_buckets(template, physical)
    definitions = {
        name: definition(resource, physical[name], names)
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::ECS::TaskDefinition"
    }
    answer = {
        "status": described["StackStatus"],
        "resources": physical,
        "outputs": {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]},
        "definitions": definitions,
        "policies": account.policies(template, physical, names),
        "template": template,
    }
    print(json.dumps(answer))


main(*sys.argv[1:])
