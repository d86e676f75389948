// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

import {ConfidentialToken} from "../../examples/ConfidentialToken.sol";
import {IDecryptionGateway} from "../../interfaces/IDecryptionGateway.sol";
import {IGuardLens} from "../../interfaces/IGuardLens.sol";
import {KmsTest} from "../support/KmsTest.sol";
import {Requester} from "../support/Requesters.sol";

/// @dev Measures what answers cost: execution with everything cold, without calldata and the transaction's own 21,000. Writes
/// cache/gas.json, which `script/gas` compares with the pinned figures.
contract GasTest is KmsTest {
    string private constant OUT = "cache/gas.json";
    string private _json;

    function setUp() public override {
        vm.warp(1_700_000_000);
        vm.roll(1000);
    }

    /// forge-config: default.isolate = true
    function test_gas() public {
        _record("gas.verify.3of4", _verify(4, 1, 3), 22_000);
        _record("gas.verify.7of13", _verify(13, 4, 7), 36_000);
        _record("gas.verify.9of13", _verify(13, 4, 9), 43_000);
        _record("gas.fulfill.uint64", _fulfill(), 50_000);
        _record("gas.delegate", _delegate(), 40_000);
        _record("gas.token.transfer", _transfer(), 400_000);
        _record("gas.lens.pairs.1", _look(1), 60_000);
        _record("gas.lens.pairs.1024", _look(1024), 25_000_000);
        vm.writeFile(OUT, _json);
    }

    function _record(string memory name, uint256 gas, uint256 most) private {
        assertLe(gas, most, name);
        _json = vm.serializeUint("gas", name, gas);
    }

    /// @dev Each call is a transaction of its own: the verifier is warm as its target, all else is cold.
    function _verify(uint256 n, uint256 t, uint256 threshold) private returns (uint256) {
        _deploy(n, t, threshold);
        bytes32[] memory handles = _one(_handle("x", 5));
        bytes memory extraData = _v3(verifier.currentContextId(), keccak256("request"));
        bytes memory proof = _proof(handles, abi.encode(42), extraData, threshold);
        return _execution(
            address(verifier),
            abi.encodeCall(verifier.verifyDecryptionEIP712KMSSignatures, (handles, abi.encode(42), proof))
        );
    }

    function _fulfill() private returns (uint256) {
        _deploy(4, 1, 3);
        Requester dapp = new Requester(gateway);
        bytes32 handle = _handle("x", 5);
        _write(handle, address(dapp));
        uint64 deadline = uint64(block.timestamp + 1 hours);
        dapp.ask(_one(handle), bytes4(0), 0, deadline);
        IDecryptionGateway.Request memory request = IDecryptionGateway.Request({
            requester: address(dapp),
            nonce: 0,
            handles: _one(handle),
            selector: bytes4(0),
            gasLimit: 0,
            finality: 1,
            deadline: deadline,
            contextId: verifier.currentContextId()
        });
        bytes memory proof = _proofFor(request, abi.encode(42));
        return _execution(address(gateway), abi.encodeCall(gateway.fulfill, (request, abi.encode(42), proof)));
    }

    /// @dev The first delegation of an account.
    function _delegate() private returns (uint256) {
        _deploy(4, 1, 3);
        return _execution(
            address(acl),
            abi.encodeCall(acl.delegateForUserDecryption, (address(1), address(2), uint64(block.timestamp + 1 days)))
        );
    }

    /// @dev Between two holders.
    function _transfer() private returns (uint256) {
        _deploy(4, 1, 3);
        ConfidentialToken token = new ConfidentialToken(executor);
        token.mint(address(this), 10);
        token.mint(address(1), 10);
        bytes32[] memory amount = _one(_inputHandle("amount", 0, 5));
        bytes memory proof = _inputProof(amount, address(this), address(token), 2);
        return _execution(address(token), abi.encodeCall(token.confidentialTransfer, (address(1), amount[0], proof)));
    }

    /// @dev What a party reads about a delegated permit whose contracts are all different.
    function _look(uint256 count) private returns (uint256) {
        _deploy(4, 1, 3);
        IGuardLens.UserDecryptionQuery memory query;
        (query.user, query.signer) = (address(1), address(2));
        query.pairs = new IGuardLens.HandleContractPair[](count);
        for (uint256 i = 0; i < count; ++i) {
            query.pairs[i] =
                IGuardLens.HandleContractPair(_handle(vm.toString(i), 0), address(uint160(uint256(1000 + i))));
        }
        return _execution(address(lens), abi.encodeCall(lens.viewUserDecryption, (query)));
    }

    /// @dev Gas of a transaction less what it pays for being one and for its calldata.
    function _execution(address to, bytes memory data) private returns (uint256) {
        (bool done,) = to.call(data);
        assertTrue(done);
        uint256 intrinsic = 21_000;
        for (uint256 i = 0; i < data.length; ++i) {
            intrinsic += data[i] == 0 ? 4 : 16;
        }
        return vm.lastCallGas().gasTotalUsed - intrinsic;
    }
}
